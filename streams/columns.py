"""Rows → columns for inserts: pure, one list or array per column of `streams.tables`.

Numbers that are never NULL and times that are never NULL are numpy arrays (times as int64 microseconds since
1970, UTC), arrays are `Arrays`; all else are lists: str or bytes for strings, None for NULL. Within arrays
times are ints, too. Every function takes rows of any tenants and keeps their order.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

import numpy as np

from schemas.codec import canonical_json
from schemas.documents import DocumentRemoved, DocumentStored, text_hash
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.ids import EventRef
from schemas.rejections import EventRejected
from schemas.waiting import FeedbackReferred, QueryNamed
from streams.arrays import Arrays, Ends, flatten
from streams.fold import FOLD_VERSION
from streams.measures import count_feedback
from streams.records import Arrival

#: Column name → values, one a row.
Columns = dict[str, Any]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_SECONDS_A_DAY: Final = 86_400
_MICROSECONDS: Final = 1_000_000


def to_microseconds(moment: dt.datetime) -> int:
    """Microseconds since 1970, exactly."""
    delta = moment - _EPOCH
    return (delta.days * _SECONDS_A_DAY + delta.seconds) * _MICROSECONDS + delta.microseconds


def event_columns(arrivals: Sequence[Arrival]) -> Columns:
    """Table `events`, from records of `interactions`."""
    events = [a.event for a in arrivals]
    return {
        "tenant": [e.tenant for e in events],
        "query_id": [e.subject or "" for e in events],
        **_envelope(events),
        "event_time": [None if e.time is None else to_microseconds(e.time) for e in events],
        "effective_time": _times(e.effective_time for e in events),
        "time_doubted": _flags(e.time_doubted for e in events),
        "type": [e.type for e in events],
        "door": [e.door for e in events],
        "record": [a.value for a in arrivals],
        **_positions(arrivals),
    }


def episode_columns(episodes: Sequence[Episode]) -> Columns:
    """Table `episodes`."""
    counts = [count_feedback(e.feedback) for e in episodes]
    exposure_ends, exposures = flatten(e.exposures for e in episodes)
    measured_ends, measurements = flatten(e.measurements for e in episodes)
    return {
        "tenant": [e.tenant for e in episodes],
        "query_id": [e.query_id for e in episodes],
        "record_count": np.array([e.record_count for e in episodes], np.uint64),
        "has_query": _flags(e.query_ref is not None for e in episodes),
        "query_source": ["" if e.query_ref is None else e.query_ref.source for e in episodes],
        "query_event_id": ["" if e.query_ref is None else e.query_ref.id for e in episodes],
        "asked_at": [None if e.asked_at is None else to_microseconds(e.asked_at) for e in episodes],
        "first_received_at": _times(e.first_received_at for e in episodes),
        "text": [e.text for e in episodes],
        "unit": [e.unit or "" for e in episodes],
        "unit_kind": [e.unit_kind for e in episodes],
        "attributes": [canonical_json(e.attributes).decode() if e.attributes else "{}" for e in episodes],
        **_arrays(
            exposure_ends,
            exposures_experiment=[x.experiment for x in exposures],
            exposures_arm=[x.arm for x in exposures],
        ),
        "pipeline_version": [e.pipeline_version for e in episodes],
        **_served_columns(episodes),
        **_retrieval_columns(episodes),
        "clicks": np.array([c.clicks for c in counts], np.uint32),
        "thumbs_up": np.array([c.thumbs_up for c in counts], np.uint32),
        "thumbs_down": np.array([c.thumbs_down for c in counts], np.uint32),
        **_feedback_columns(episodes),
        **_answer_columns(episodes),
        **_pair_columns(episodes),
        **_arrays(
            measured_ends,
            measures=[m.measure for m in measurements],
            values=[m.value for m in measurements],
        ),
        "waiting_feedback": np.array(
            [len(e.feedback) if e.query_ref is None else 0 for e in episodes], np.uint32
        ),
        **_ref_columns("retracted", [e.retracted for e in episodes]),
        "repeats": np.array([e.repeats for e in episodes], np.uint32),
        **_ref_columns("conflict", [e.conflicts for e in episodes]),
        **_ref_columns("superseded", [e.superseded for e in episodes]),
        "fold_version": np.full(len(episodes), FOLD_VERSION, np.uint32),
    }


def _served_columns(episodes: Sequence[Episode]) -> Columns:
    served = [next((r for r in reversed(e.retrievals) if not r.shadow), None) for e in episodes]
    lists = [() if r is None else r.hits for r in served]
    ends, hits = flatten(lists)
    return {
        "retrieval_id": ["" if r is None else r.retrieval_id for r in served],
        "retrieval_latency_ms": [None if r is None else r.latency_ms for r in served],
        "retrieval_error": ["" if r is None else r.error or "" for r in served],
        "retrieval_exploration": _flags(r is not None and r.exploration for r in served),
        **_arrays(
            ends,
            hit_document_ids=[h.document_id for h in hits],
            hit_ranks=[h.rank for h in hits],
            hit_text_hashes=[h.text_hash or "" for h in hits],
            hit_scores=[h.score for h in hits],
            hit_propensities=[h.propensity for h in hits],
        ),
        "shown_top_score": [min(hs, key=attrgetter("rank")).score if hs else None for hs in lists],
    }


def _retrieval_columns(episodes: Sequence[Episode]) -> Columns:
    ends, retrievals = flatten(e.retrievals for e in episodes)
    return {
        "retrieval_count": np.array([len(e.retrievals) for e in episodes], np.uint32),
        **_arrays(
            ends,
            retrieval_ids=[r.retrieval_id for r in retrievals],
            retrieval_times=[to_microseconds(r.at) for r in retrievals],
            retrieval_pipeline_versions=[r.pipeline_version for r in retrievals],
            retrieval_shadows=[int(r.shadow) for r in retrievals],
        ),
    }


def _feedback_columns(episodes: Sequence[Episode]) -> Columns:
    ends, feedback = flatten(e.feedback for e in episodes)
    return _arrays(
        ends,
        feedback_source=[f.ref.source for f in feedback],
        feedback_id=[f.ref.id for f in feedback],
        feedback_time=[to_microseconds(f.at) for f in feedback],
        feedback_kind=[f.kind for f in feedback],
        feedback_value=[f.value for f in feedback],
        feedback_text=[f.text or "" for f in feedback],
        feedback_rater=[f.rater for f in feedback],
        feedback_name=[f.name for f in feedback],
        feedback_target=[f.target.kind for f in feedback],
        feedback_document_id=[f.document_id for f in feedback],
        feedback_answer_id=[f.target.answer_id or "" for f in feedback],
        feedback_retrieval_id=[f.retrieval_id for f in feedback],
        feedback_rank=[f.rank for f in feedback],
        feedback_attribution=[f.attribution for f in feedback],
    )


def _answer_columns(episodes: Sequence[Episode]) -> Columns:
    ends, answers = flatten(e.answers for e in episodes)
    cited_ends, citations = flatten(a.citations for a in answers)
    return _arrays(
        ends,
        answer_ids=[a.answer_id for a in answers],
        answer_times=[to_microseconds(a.at) for a in answers],
        answer_texts=[a.text for a in answers],
        answer_generators=[a.generator for a in answers],
        answer_citations=Arrays(cited_ends, [c.document_id for c in citations]),
        answer_input_tokens=[a.input_tokens for a in answers],
        answer_output_tokens=[a.output_tokens for a in answers],
        answer_costs_usd=[a.cost_usd for a in answers],
        answer_latencies_ms=[a.latency_ms for a in answers],
        answer_cached=[int(a.cached) for a in answers],
        answer_errors=[a.error or "" for a in answers],
    )


def _pair_columns(episodes: Sequence[Episode]) -> Columns:
    ends, pairs = flatten(e.pairs for e in episodes)
    event_ends, events = flatten(p.events for p in pairs)
    return _arrays(
        ends,
        pair_document_id=[p.document_id for p in pairs],
        pair_text_hash=[p.text_hash or "" for p in pairs],
        pair_label=[p.label for p in pairs],
        pair_weight=[p.weight for p in pairs],
        pair_kind=[p.kind for p in pairs],
        pair_retrieval_id=[p.retrieval_id for p in pairs],
        pair_pipeline_version=[p.pipeline_version for p in pairs],
        pair_rank=[p.rank for p in pairs],
        pair_propensity=[p.propensity for p in pairs],
        pair_event_sources=Arrays(event_ends, [r.source for r in events]),
        pair_event_ids=Arrays(event_ends, [r.id for r in events]),
    )


def contribution_columns(episodes: Sequence[Episode]) -> Columns:
    """Table `contributions`: a live row for the unit of each query, a deleted one for each former unit.

    A query without a unit has no live row. A deleted row says nothing but its key and version.
    """
    rows = [(e, e.unit, False) for e in episodes if e.unit is not None]
    rows += [(e, unit, True) for e in episodes for unit in e.former_units]
    exposure_ends, exposures = flatten(() if gone else e.exposures for e, _, gone in rows)
    measured_ends, measurements = flatten(() if gone else e.measurements for e, _, gone in rows)
    return {
        "tenant": [e.tenant for e, _, _ in rows],
        "unit": [unit for _, unit, _ in rows],
        "query_id": [e.query_id for e, _, _ in rows],
        "asked_at": [
            None if gone or e.asked_at is None else to_microseconds(e.asked_at) for e, _, gone in rows
        ],
        "record_count": np.array([e.record_count for e, _, _ in rows], np.uint64),
        "deleted": _flags(gone for _, _, gone in rows),
        "experiments": Arrays(exposure_ends, [x.experiment for x in exposures]),
        "arms": Arrays(exposure_ends, [x.arm for x in exposures]),
        "pipeline_version": ["" if gone else e.pipeline_version for e, _, gone in rows],
        "measures": Arrays(measured_ends, [m.measure for m in measurements]),
        "values": Arrays(measured_ends, [m.value for m in measurements]),
        "fold_version": np.full(len(rows), FOLD_VERSION, np.uint32),
    }


def document_columns(arrivals: Sequence[tuple[Arrival, DocumentStored | DocumentRemoved]]) -> Columns:
    """Table `documents`, from records of `documents` and their payloads."""
    only = [arrival for arrival, _ in arrivals]
    events = [a.event for a in only]
    stored = [p if isinstance(p, DocumentStored) else None for _, p in arrivals]
    return {
        "tenant": [e.tenant for e in events],
        "document_id": [e.subject or "" for e in events],
        **_envelope(events),
        "removed": _flags(p is None for p in stored),
        "title": ["" if p is None else p.title for p in stored],
        "text": ["" if p is None else p.text for p in stored],
        "fields": ["{}" if p is None else canonical_json(p.fields).decode() for p in stored],
        "text_hash": ["" if p is None else text_hash(p.title, p.text) for p in stored],
        **_positions(only),
    }


def rejected_columns(arrivals: Sequence[tuple[Arrival, EventRejected]]) -> Columns:
    """Table `rejected`, from records of `rejected` and their payloads."""
    only = [arrival for arrival, _ in arrivals]
    events = [a.event for a in only]
    payloads = [p for _, p in arrivals]
    envelope = _envelope(events)
    envelope["rejection_id"] = envelope.pop("event_id")
    return {
        "tenant": [e.tenant for e in events],
        "entry_id": [e.subject or "" for e in events],
        **envelope,
        "reason": [p.reason for p in payloads],
        "message": [p.message for p in payloads],
        "field": [p.field for p in payloads],
        "original": [p.original for p in payloads],
        "original_length": np.array([p.original_length for p in payloads], np.uint64),
        "headers": [canonical_json(p.headers).decode() for p in payloads],
        "event_source": [p.event_source for p in payloads],
        "event_id": [p.event_id for p in payloads],
        "event_type": [p.event_type for p in payloads],
        "replayable": _flags(p.replayable for p in payloads),
        "code_version": [p.code_version for p in payloads],
        "door": [e.door for e in events],
        **_positions(only),
    }


def waiting_columns(arrivals: Sequence[tuple[Arrival, FeedbackReferred | QueryNamed]]) -> Columns:
    """Table `waiting`."""
    events = [a.event for a, _ in arrivals]
    return {
        "tenant": [e.tenant for e in events],
        "reference": [payload.reference for _, payload in arrivals],
        **_envelope(events),
        "event_time": [None if e.time is None else to_microseconds(e.time) for e in events],
        "type": [e.type for e in events],
        "query_id": [payload.query_id if isinstance(payload, QueryNamed) else "" for _, payload in arrivals],
        "data": [bytes(e.data) for e in events],
        "record": [a.value for a, _ in arrivals],
        **_positions([a for a, _ in arrivals]),
    }


def lifecycle_columns(arrivals: Sequence[Arrival], ignored: Sequence[str]) -> Columns:
    """Table `lifecycle`. `ignored` says of each record why it is illegal in its state; '' if it counts."""
    events = [a.event for a in arrivals]
    return {
        "tenant": [e.tenant for e in events],
        **_envelope(events),
        "event_time": [None if e.time is None else to_microseconds(e.time) for e in events],
        "type": [e.type for e in events],
        "causation_id": [e.causationid or "" for e in events],
        "attempt": np.array([e.attempt for e in events], np.uint32),
        "data": [bytes(e.data) for e in events],
        "record": [a.value for a in arrivals],
        "ignored": list(ignored),
        **_positions(arrivals),
    }


def _envelope(events: Sequence[Event]) -> Columns:
    """What every record has: its identity, its content hash and its received time."""
    return {
        "source": [e.source for e in events],
        "event_id": [e.id for e in events],
        "content_hash": [e.contenthash for e in events],
        "received_time": _times(e.recordedtime for e in events),
    }


def _positions(arrivals: Sequence[Arrival]) -> Columns:
    return {
        "topic": [a.topic for a in arrivals],
        "partition": np.array([a.partition for a in arrivals], np.int32),
        "offset": np.array([a.offset for a in arrivals], np.int64),
    }


def _ref_columns(prefix: str, groups: Sequence[Sequence[EventRef]]) -> Columns:
    ends, refs = flatten(groups)
    return _arrays(
        ends, **{f"{prefix}_source": [r.source for r in refs], f"{prefix}_id": [r.id for r in refs]}
    )


def _arrays(ends: Ends, **items: Sequence[Any]) -> Columns:
    """Columns of arrays of the same lengths."""
    return {name: Arrays(ends, column) for name, column in items.items()}


def _times(moments: Iterable[dt.datetime]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([to_microseconds(m) for m in moments], np.int64)


def _flags(values: Iterable[bool]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array([*values], np.uint8)
