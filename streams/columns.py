"""Rows → columns for inserts: pure, one list or array per column of `streams.tables`.

Numbers that are never NULL and times that are never NULL are numpy arrays (times as int64 microseconds since
1970, UTC); all else are lists: str or bytes for strings, None for NULL, lists for arrays. Within arrays times
are ints, too. Every function takes rows of any tenants and keeps their order.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec
import numpy as np

from schemas.codec import canonical_json
from schemas.documents import DocumentRemoved, DocumentStored, text_hash
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.rejections import EventRejected
from schemas.waiting import FeedbackReferred, QueryNamed
from streams.fold import FOLD_VERSION
from streams.measures import count_feedback
from streams.records import Arrival

#: Column name → values, one a row.
Columns = dict[str, Any]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MSGPACK: Final = msgspec.msgpack.Encoder()
_SECONDS_A_DAY: Final = 86_400
_MICROSECONDS: Final = 1_000_000


def to_microseconds(moment: dt.datetime) -> int:
    """Microseconds since 1970, exactly."""
    delta = moment - _EPOCH
    return (delta.days * _SECONDS_A_DAY + delta.seconds) * _MICROSECONDS + delta.microseconds


def hash_row(content: bytes) -> int:
    """A row's 64-bit hash: the first 8 bytes of BLAKE2b of its content, little-endian."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def encode_episode(episode: Episode) -> bytes:
    """The bytes that make two rows the same row; `row_hash` is of these."""
    return _MSGPACK.encode(episode)


def event_columns(arrivals: Sequence[Arrival]) -> Columns:
    """Table `events`, from records of `interactions`."""
    events = [a.event for a in arrivals]
    return {
        "tenant": [e.tenant for e in events],
        "query_id": [e.subject or "" for e in events],
        **_envelope(arrivals, events),
        "event_time": [None if e.time is None else to_microseconds(e.time) for e in events],
        "effective_time": _times(e.effective_time for e in events),
        "time_doubted": _flags(e.time_doubted for e in events),
        "type": [e.type for e in events],
        "door": [e.door for e in events],
        "data": [bytes(e.data) for e in events],
        "record": [a.value for a in arrivals],
        **_positions(arrivals),
    }


def episode_columns(episodes: Sequence[Episode]) -> Columns:
    """Table `episodes`."""
    counts = [count_feedback(e.feedback) for e in episodes]
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
        "exposures_experiment": [[x.experiment for x in e.exposures] for e in episodes],
        "exposures_arm": [[x.arm for x in e.exposures] for e in episodes],
        "pipeline_version": [e.pipeline_version for e in episodes],
        **_served_columns(episodes),
        **_retrieval_columns(episodes),
        "clicks": np.array([c.clicks for c in counts], np.uint32),
        "thumbs_up": np.array([c.thumbs_up for c in counts], np.uint32),
        "thumbs_down": np.array([c.thumbs_down for c in counts], np.uint32),
        **_feedback_columns(episodes),
        **_answer_columns(episodes),
        **_pair_columns(episodes),
        "measures": [[m.measure for m in e.measurements] for e in episodes],
        "values": [[m.value for m in e.measurements] for e in episodes],
        "waiting_feedback": np.array(
            [len(e.feedback) if e.query_ref is None else 0 for e in episodes], np.uint32
        ),
        "retracted_source": [[r.source for r in e.retracted] for e in episodes],
        "retracted_id": [[r.id for r in e.retracted] for e in episodes],
        "repeats": np.array([e.repeats for e in episodes], np.uint32),
        "conflict_source": [[r.source for r in e.conflicts] for e in episodes],
        "conflict_id": [[r.id for r in e.conflicts] for e in episodes],
        "superseded_source": [[r.source for r in e.superseded] for e in episodes],
        "superseded_id": [[r.id for r in e.superseded] for e in episodes],
        "fold_version": np.full(len(episodes), FOLD_VERSION, np.uint32),
        "row_hash": np.array([hash_row(encode_episode(e)) for e in episodes], np.uint64),
    }


def _served_columns(episodes: Sequence[Episode]) -> Columns:
    served = [next((r for r in reversed(e.retrievals) if not r.shadow), None) for e in episodes]
    hits = [() if r is None else r.hits for r in served]
    return {
        "retrieval_id": ["" if r is None else r.retrieval_id for r in served],
        "retrieval_latency_ms": [None if r is None else r.latency_ms for r in served],
        "retrieval_error": ["" if r is None else r.error or "" for r in served],
        "retrieval_exploration": _flags(r is not None and r.exploration for r in served),
        "hit_document_ids": [[h.document_id for h in hs] for hs in hits],
        "hit_ranks": [[h.rank for h in hs] for hs in hits],
        "hit_text_hashes": [[h.text_hash or "" for h in hs] for hs in hits],
        "hit_scores": [[h.score for h in hs] for hs in hits],
        "hit_propensities": [[h.propensity for h in hs] for hs in hits],
        "shown_top_score": [min(hs, key=attrgetter("rank")).score if hs else None for hs in hits],
    }


def _retrieval_columns(episodes: Sequence[Episode]) -> Columns:
    return {
        "retrieval_count": np.array([len(e.retrievals) for e in episodes], np.uint32),
        "retrieval_ids": [[r.retrieval_id for r in e.retrievals] for e in episodes],
        "retrieval_times": [[to_microseconds(r.at) for r in e.retrievals] for e in episodes],
        "retrieval_pipeline_versions": [[r.pipeline_version for r in e.retrievals] for e in episodes],
        "retrieval_shadows": [[int(r.shadow) for r in e.retrievals] for e in episodes],
    }


def _feedback_columns(episodes: Sequence[Episode]) -> Columns:
    each = [e.feedback for e in episodes]
    return {
        "feedback_source": [[f.ref.source for f in fs] for fs in each],
        "feedback_id": [[f.ref.id for f in fs] for fs in each],
        "feedback_time": [[to_microseconds(f.at) for f in fs] for fs in each],
        "feedback_kind": [[f.kind for f in fs] for fs in each],
        "feedback_value": [[f.value for f in fs] for fs in each],
        "feedback_text": [[f.text or "" for f in fs] for fs in each],
        "feedback_rater": [[f.rater for f in fs] for fs in each],
        "feedback_name": [[f.name for f in fs] for fs in each],
        "feedback_target": [[f.target.kind for f in fs] for fs in each],
        "feedback_document_id": [[f.document_id for f in fs] for fs in each],
        "feedback_answer_id": [[f.target.answer_id or "" for f in fs] for fs in each],
        "feedback_retrieval_id": [[f.retrieval_id for f in fs] for fs in each],
        "feedback_rank": [[f.rank for f in fs] for fs in each],
        "feedback_attribution": [[f.attribution for f in fs] for fs in each],
    }


def _answer_columns(episodes: Sequence[Episode]) -> Columns:
    each = [e.answers for e in episodes]
    return {
        "answer_ids": [[a.answer_id for a in answers] for answers in each],
        "answer_times": [[to_microseconds(a.at) for a in answers] for answers in each],
        "answer_texts": [[a.text for a in answers] for answers in each],
        "answer_generators": [[a.generator for a in answers] for answers in each],
        "answer_citations": [[[c.document_id for c in a.citations] for a in answers] for answers in each],
        "answer_input_tokens": [[a.input_tokens for a in answers] for answers in each],
        "answer_output_tokens": [[a.output_tokens for a in answers] for answers in each],
        "answer_costs_usd": [[a.cost_usd for a in answers] for answers in each],
        "answer_latencies_ms": [[a.latency_ms for a in answers] for answers in each],
        "answer_cached": [[int(a.cached) for a in answers] for answers in each],
        "answer_errors": [[a.error or "" for a in answers] for answers in each],
    }


def _pair_columns(episodes: Sequence[Episode]) -> Columns:
    each = [e.pairs for e in episodes]
    return {
        "pair_document_id": [[p.document_id for p in ps] for ps in each],
        "pair_text_hash": [[p.text_hash or "" for p in ps] for ps in each],
        "pair_label": [[p.label for p in ps] for ps in each],
        "pair_weight": [[p.weight for p in ps] for ps in each],
        "pair_kind": [[p.kind for p in ps] for ps in each],
        "pair_retrieval_id": [[p.retrieval_id for p in ps] for ps in each],
        "pair_pipeline_version": [[p.pipeline_version for p in ps] for ps in each],
        "pair_rank": [[p.rank for p in ps] for ps in each],
        "pair_propensity": [[p.propensity for p in ps] for ps in each],
        "pair_event_sources": [[[r.source for r in p.events] for p in ps] for ps in each],
        "pair_event_ids": [[[r.id for r in p.events] for p in ps] for ps in each],
    }


def contribution_columns(episodes: Sequence[Episode]) -> Columns:
    """Table `contributions`: a live row for the unit of each query, a deleted one for each former unit.

    A query without a unit has no live row. A deleted row says nothing but its key and version.
    """
    rows = [(e, e.unit, False) for e in episodes if e.unit is not None]
    rows += [(e, unit, True) for e in episodes for unit in e.former_units]
    hashes = [
        hash_row(
            _MSGPACK.encode(
                (e.tenant, unit, e.query_id, e.record_count)
                if gone
                else (
                    e.tenant,
                    unit,
                    e.query_id,
                    e.record_count,
                    e.asked_at,
                    e.exposures,
                    e.pipeline_version,
                    e.measurements,
                )
            )
        )
        for e, unit, gone in rows
    ]
    return {
        "tenant": [e.tenant for e, _, _ in rows],
        "unit": [unit for _, unit, _ in rows],
        "query_id": [e.query_id for e, _, _ in rows],
        "asked_at": [
            None if gone or e.asked_at is None else to_microseconds(e.asked_at) for e, _, gone in rows
        ],
        "record_count": np.array([e.record_count for e, _, _ in rows], np.uint64),
        "deleted": _flags(gone for _, _, gone in rows),
        "experiments": [[] if gone else [x.experiment for x in e.exposures] for e, _, gone in rows],
        "arms": [[] if gone else [x.arm for x in e.exposures] for e, _, gone in rows],
        "pipeline_version": ["" if gone else e.pipeline_version for e, _, gone in rows],
        "measures": [[] if gone else [m.measure for m in e.measurements] for e, _, gone in rows],
        "values": [[] if gone else [m.value for m in e.measurements] for e, _, gone in rows],
        "fold_version": np.full(len(rows), FOLD_VERSION, np.uint32),
        "row_hash": np.array(hashes, np.uint64),
    }


def document_columns(arrivals: Sequence[tuple[Arrival, DocumentStored | DocumentRemoved]]) -> Columns:
    """Table `documents`, from records of `documents` and their payloads."""
    only = [arrival for arrival, _ in arrivals]
    events = [a.event for a in only]
    stored = [p if isinstance(p, DocumentStored) else None for _, p in arrivals]
    return {
        "tenant": [e.tenant for e in events],
        "document_id": [e.subject or "" for e in events],
        **_envelope(only, events),
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
    envelope = _envelope(only, events)
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
        **_envelope([a for a, _ in arrivals], events),
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
        **_envelope(arrivals, events),
        "event_time": [None if e.time is None else to_microseconds(e.time) for e in events],
        "type": [e.type for e in events],
        "causation_id": [e.causationid or "" for e in events],
        "attempt": np.array([e.attempt for e in events], np.uint32),
        "data": [bytes(e.data) for e in events],
        "record": [a.value for a in arrivals],
        "ignored": list(ignored),
        **_positions(arrivals),
    }


def _envelope(arrivals: Sequence[Arrival], events: Sequence[Event]) -> Columns:
    """What every record has: its identity, its content hash, its received time and the hash of its bytes."""
    return {
        "source": [e.source for e in events],
        "event_id": [e.id for e in events],
        "content_hash": [e.contenthash for e in events],
        "received_time": _times(e.recordedtime for e in events),
        "row_hash": np.array([hash_row(a.value) for a in arrivals], np.uint64),
    }


def _positions(arrivals: Sequence[Arrival]) -> Columns:
    return {
        "topic": [a.topic for a in arrivals],
        "partition": np.array([a.partition for a in arrivals], np.int32),
        "offset": np.array([a.offset for a in arrivals], np.int64),
    }


def _times(moments: Iterable[dt.datetime]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([to_microseconds(m) for m in moments], np.int64)


def _flags(values: Iterable[bool]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array([*values], np.uint8)
