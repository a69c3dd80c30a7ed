"""The fold: the set of a query's records → its episode (L3, L4).

- Of the records of one identity the smallest (received time, content hash) is the event. Another with the
  same content is a repeat, with other content a conflict; both are counted, neither has an effect.
- Of several events in one role (`query.asked` of the query, one retrieval_id, one answer_id) the smallest
  (received time, content hash, source, id) counts; the others are listed as superseded. So a client that
  sends a thing again under a new id changes nothing. Of queries an inferred one gives way
  to any that is not; of several inferred ones the earliest by effective time counts.
- A retraction names source and id of feedback and wins, before or after it came. It has no effect on
  anything else: an event of another type keeps standing, and a retraction cannot be retracted.
- Lists, answers and feedback are ordered by effective time, then by retrieval_id, answer_id, or identity.
- Without `query.asked` there are no pairs and no measures: the row waits.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from schemas.envelope import Event
from schemas.episodes import Episode, EpisodeAnswer, EpisodeFeedback, EpisodeRetrieval
from schemas.ids import EventRef
from schemas.interactions import (
    AnswerGiven,
    FeedbackGiven,
    FeedbackRetracted,
    QueryAsked,
    RetrievalServed,
)
from streams.attribution import attribute
from streams.measures import measure_query
from streams.pairs import Attributed, label_pairs
from streams.records import Record, collect_records

#: Raise it whenever the same records may give another row: tables of another version must be rebuilt (L6).
FOLD_VERSION: Final = 1


def fold_episode(records: Iterable[Record]) -> Episode:
    """The episode of one query: the same for any order and any repetition of these records.

    Raises ValueError if there is no record, if they are not all of one tenant and query, or if one is of a
    type that is not about a query.
    """
    distinct = list(collect_records(records).values())
    if not distinct:
        raise ValueError("expected the records of one query, but there are none")
    first = distinct[0].event
    winners, repeats, conflicts = _choose_events(distinct, first.tenant, first.subject)
    by_type: dict[type[object], list[Record]] = {
        QueryAsked: [],
        RetrievalServed: [],
        AnswerGiven: [],
        FeedbackGiven: [],
        FeedbackRetracted: [],
    }
    for record in winners:
        of_type = by_type.get(type(record.payload))
        if of_type is None:
            raise ValueError(f"expected an event about a query, but {record.event.type} is not one")
        of_type.append(record)

    superseded: list[EventRef] = []
    queries = _oldest_each(by_type[QueryAsked], _the_query, superseded)
    retrievals = _fold_retrievals(by_type[RetrievalServed], superseded)
    answers = _fold_answers(by_type[AnswerGiven], superseded)
    retracted = _retracted_refs(by_type[FeedbackRetracted], winners)
    attributed = _fold_feedback(by_type[FeedbackGiven], retracted, retrievals)
    feedback = tuple(item.feedback for item in attributed)
    served = next((r for r in reversed(retrievals) if not r.shadow), None)

    event = queries[0].event if queries else None
    query: QueryAsked | None = queries[0].payload if queries else None  # type: ignore[assignment]
    ref = None if event is None else event.ref
    unit = None if query is None else query.unit
    units = {r.payload.unit for r in distinct if type(r.payload) is QueryAsked}
    return Episode(
        tenant=first.tenant,
        query_id=first.subject or "",
        record_count=len(distinct),
        query_ref=ref,
        asked_at=None if event is None else event.effective_time,
        first_received_at=min([r.event.recordedtime for r in distinct]),
        query_received_at=None if event is None else event.recordedtime,
        text="" if query is None else query.text,
        unit=unit or None,
        unit_kind=_unit_kind(query),
        attributes={} if query is None else query.attributes,
        exposures=() if query is None else query.exposures,
        pipeline_version="" if served is None else served.pipeline_version,
        retrievals=retrievals,
        answers=answers,
        feedback=feedback,
        retracted=retracted,
        pairs=()
        if query is None or ref is None
        else label_pairs(query.text, ref, retrievals, answers, attributed),
        measurements=() if query is None else measure_query(retrievals, answers, feedback),
        repeats=repeats,
        conflicts=conflicts,
        superseded=tuple(sorted(superseded)),
        former_units=tuple(sorted(u for u in units if u and u != unit)),
    )


def _choose_events(
    records: Sequence[Record], tenant: str, query_id: str | None
) -> tuple[list[Record], int, tuple[EventRef, ...]]:
    """The event of each identity; the number of repeats; an entry for each conflicting record."""
    chosen: dict[tuple[str, str], Record] = {}
    for record in records:
        event = record.event
        if event.tenant != tenant or event.subject != query_id:
            raise ValueError(
                f"expected records of query {tenant}/{query_id} only, but there is one of "
                f"{event.tenant}/{event.subject}; group the records by tenant and query_id first"
            )
        other = chosen.setdefault((event.source, event.id), record)
        if other is not record and (event.recordedtime, event.contenthash) < (
            other.event.recordedtime,
            other.event.contenthash,
        ):
            chosen[event.source, event.id] = record
    if len(chosen) == len(records):
        return list(chosen.values()), 0, ()
    repeats = 0
    conflicts: list[EventRef] = []
    for record in records:
        winner = chosen[record.event.source, record.event.id]
        if winner is record:
            continue
        if winner.event.contenthash == record.event.contenthash:
            repeats += 1
        else:
            conflicts.append(record.event.ref)
    return list(chosen.values()), repeats, tuple(sorted(conflicts))


def _oldest_each(
    records: Sequence[Record], role: Callable[[Any], str], superseded: list[EventRef]
) -> list[Record]:
    """Of the records of each role the one that goes first; the others are added to `superseded`."""
    if len(records) < 2:
        return list(records)
    oldest: dict[str, Record] = {}
    for record in sorted(records, key=_precedence):
        if oldest.setdefault(role(record.payload), record) is not record:
            superseded.append(record.event.ref)
    return list(oldest.values())


def _the_query(_payload: object) -> str:
    return ""


def _precedence(record: Record) -> tuple[bool, dt.datetime, str, str, str]:
    event = record.event
    inferred = type(record.payload) is QueryAsked and record.payload.inferred
    # what a question was inferred from began before what it began itself, whichever came first
    age = event.effective_time if inferred else event.recordedtime
    return inferred, age, event.contenthash, event.source, event.id


def _fold_retrievals(records: Sequence[Record], superseded: list[EventRef]) -> tuple[EpisodeRetrieval, ...]:
    retrievals = [
        _retrieval(record.event, record.payload)  # type: ignore[arg-type]
        for record in _oldest_each(records, lambda payload: payload.retrieval_id, superseded)
    ]
    return tuple(sorted(retrievals, key=lambda r: (r.at, r.retrieval_id)))


def _retrieval(event: Event, payload: RetrievalServed) -> EpisodeRetrieval:
    return EpisodeRetrieval(
        ref=event.ref,
        retrieval_id=payload.retrieval_id,
        at=event.effective_time,
        pipeline_version=payload.pipeline_version,
        shadow=payload.shadow,
        exploration=payload.exploration,
        latency_ms=payload.latency_ms,
        error=payload.error,
        hits=payload.hits,
    )


def _fold_answers(records: Sequence[Record], superseded: list[EventRef]) -> tuple[EpisodeAnswer, ...]:
    answers = [
        _answer(record.event, record.payload)  # type: ignore[arg-type]
        for record in _oldest_each(records, lambda payload: payload.answer_id, superseded)
    ]
    return tuple(sorted(answers, key=lambda a: (a.at, a.answer_id)))


def _answer(event: Event, payload: AnswerGiven) -> EpisodeAnswer:
    return EpisodeAnswer(
        ref=event.ref,
        answer_id=payload.answer_id,
        at=event.effective_time,
        text=payload.text,
        generator=payload.generator,
        citations=payload.citations,
        input_tokens=payload.input_tokens,
        output_tokens=payload.output_tokens,
        cost_usd=payload.cost_usd,
        latency_ms=payload.latency_ms,
        cached=payload.cached,
        error=payload.error,
    )


def _retracted_refs(retractions: Sequence[Record], winners: Sequence[Record]) -> tuple[EventRef, ...]:
    """What is retracted: feedback, or what has not come yet and may be feedback."""
    if not retractions:
        return ()
    others = {r.event.ref for r in winners if type(r.payload) is not FeedbackGiven}
    named = {
        EventRef(r.payload.feedback_source, r.payload.feedback_id)  # type: ignore[attr-defined]
        for r in retractions
    }
    return tuple(sorted(named - others))


def _fold_feedback(
    records: Sequence[Record], retracted: Sequence[EventRef], retrievals: Sequence[EpisodeRetrieval]
) -> list[Attributed]:
    void = set(retracted)
    attributed = [
        _attribute_feedback(record.event, record.payload, retrievals)  # type: ignore[arg-type]
        for record in records
        if not void or record.event.ref not in void
    ]
    attributed.sort(key=lambda item: (item.feedback.at, item.feedback.ref))
    return attributed


def _attribute_feedback(
    event: Event, payload: FeedbackGiven, retrievals: Sequence[EpisodeRetrieval]
) -> Attributed:
    found = attribute(payload.target, retrievals)
    shown = found.attribution == "shown" and found.hit is not None
    feedback = EpisodeFeedback(
        ref=event.ref,
        at=event.effective_time,
        kind=payload.kind,
        value=payload.value,
        text=payload.text,
        rater=payload.rater,
        name=payload.name,
        target=payload.target,
        document_id=found.document_id,
        retrieval_id=found.retrieval_id,
        rank=found.hit.rank if shown and found.hit is not None else None,
        attribution=found.attribution,
    )
    return Attributed(feedback, found)


def _unit_kind(query: QueryAsked | None) -> Any:
    if query is None:
        return ""
    return "user" if query.user else "session" if query.session else "device" if query.device else ""
