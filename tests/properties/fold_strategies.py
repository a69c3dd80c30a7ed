"""Random records of one query, from few ids, times and documents, so that they collide all the time."""

from __future__ import annotations

import datetime as dt
import random
from typing import Final

from hypothesis import strategies as st
from msgspec import Struct
from msgspec.structs import replace

from schemas.codec import decode_payload, encode_event, seal_event
from schemas.envelope import Event
from schemas.interactions import (
    AnswerGiven,
    Citation,
    Exposure,
    FeedbackGiven,
    FeedbackKind,
    FeedbackRetracted,
    Hit,
    QueryAsked,
    Rater,
    RetrievalServed,
    Target,
)

START: Final = dt.datetime(2025, 3, 1, 12, tzinfo=dt.UTC)
QUERY_ID: Final = "q-1"
#: Events from `archive` have a trusted time, as a file import has.
SOURCES: Final = ("app", "archive")

_documents = st.sampled_from(["d1", "d2", "d3", "d4"])
_lists = st.sampled_from(["r1", "r2", "r3"])
_answers = st.sampled_from(["a1", "a2"])
_ids = st.sampled_from(["1", "2", "3", "4", "5", "6", "7", "8"])
_sources = st.sampled_from(SOURCES)
_errors = st.sampled_from([None, None, None, "timeout"])
_people = st.sampled_from([None, "ada", "bob"])
_milliseconds = st.sampled_from([None, 5.0, 12.5])

queries = st.builds(
    QueryAsked,
    query_id=st.just(QUERY_ID),
    text=st.sampled_from(["lost card", "Lost card?"]),
    user=_people,
    session=st.sampled_from([None, "s1"]),
    device=st.sampled_from([None, "phone"]),
    attributes=st.sampled_from([{}, {"country": "CH", "beta": True}]),
    exposures=st.sampled_from([(), (Exposure("ranker", "b"),)]),
    inferred=st.sampled_from([False, False, True]),
)
hits = st.builds(
    Hit,
    document_id=_documents,
    rank=st.integers(1, 5),
    text_hash=st.sampled_from([None, "h1", "h2"]),
    score=st.sampled_from([None, 0.25, 0.5]),
    propensity=st.sampled_from([None, 0.5, 1.0]),
)
retrievals = st.builds(
    RetrievalServed,
    query_id=st.just(QUERY_ID),
    retrieval_id=_lists,
    pipeline_version=st.sampled_from(["", "1.0.0", "1.1.0"]),
    hits=st.lists(hits, max_size=5).map(tuple),
    shadow=st.sampled_from([False, False, True]),
    exploration=st.booleans(),
    latency_ms=_milliseconds,
    error=_errors,
)
answers = st.builds(
    AnswerGiven,
    query_id=st.just(QUERY_ID),
    answer_id=_answers,
    text=st.sampled_from(["", "Call us."]),
    citations=st.lists(st.builds(Citation, document_id=_documents), max_size=2).map(tuple),
    cost_usd=st.sampled_from([None, 0.001, 0.1]),
    latency_ms=_milliseconds,
    error=_errors,
)
targets = st.builds(
    Target,
    kind=st.sampled_from(["query", "retrieval", "answer", "document"]),
    retrieval_id=st.none() | _lists,
    answer_id=st.none() | _answers,
    document_id=st.none() | _documents,
    rank=st.none() | st.integers(1, 5),
)
_values = {
    "thumb": st.sampled_from([1.0, -1.0, 0.0, None]),
    "stars": st.sampled_from([1.0, 2.0, 3.0, 4.0, 5.0]),
    "dwell": st.sampled_from([0.5, 12.0, 45.0]),
    "label": st.sampled_from([0.0, 1.0, 2.0]),
    "score": st.sampled_from([0.1, 7.0]),
}
_kinds = st.sampled_from(
    [
        "click",
        "click",
        "click",
        "thumb",
        "stars",
        "dwell",
        "copy",
        "label",
        "score",
        "comment",
        "correction",
        "follow_up",
        "abandonment",
    ]
)
feedback = _kinds.flatmap(
    lambda kind: st.builds(
        FeedbackGiven,
        query_id=st.just(QUERY_ID),
        kind=st.just(kind),
        target=targets,
        value=_values.get(kind, st.none()),
        text=st.sampled_from([None, "why not"]),
        rater=st.sampled_from(["human", "human", "llm", "code"]),
    )
)
retractions = st.builds(
    FeedbackRetracted, query_id=st.just(QUERY_ID), feedback_source=_sources, feedback_id=_ids
)
#: A query and its lists come as often as feedback, so that most sets have something to join.
payloads = st.one_of(queries, retrievals, retrievals, answers, feedback, feedback, feedback, retractions)


@st.composite
def sealed(draw: st.DrawFn, payload: st.SearchStrategy[Struct]) -> Event:
    """An event, received within 10 s of the others, its own time missing, near, or beyond belief."""
    received = START + dt.timedelta(seconds=draw(st.sampled_from([0, 0, 1, 2, 10])))
    offset_s = draw(st.sampled_from([None, None, 0, -1, -3600, 299, 301, 86_400, -8 * 86_400]))
    source = draw(_sources)
    return seal_event(
        draw(payload),
        id=draw(_ids),
        source=source,
        tenant="acme",
        recordedtime=received,
        time=None if offset_s is None else received + dt.timedelta(seconds=offset_s),
        timetrusted=source == "archive",
    )


def random_search(seed: int) -> list[Event]:
    """A search as it usually goes: a question, lists, answers, and feedback on what was shown.

    Made by plain dice: as Hypothesis draws, so many choices would take most of the time of every test.
    """
    dice = random.Random(seed)
    few = ["d1", "d2", "d3", "d4"]

    def seal(payload: Struct, id: str) -> Event:
        received = START + dt.timedelta(seconds=dice.choice([0, 0, 1, 2]))
        time = dice.choice([None, received, START])
        return seal_event(payload, id=id, source="app", tenant="acme", recordedtime=received, time=time)

    def make_list(number: int) -> RetrievalServed:
        ranked = enumerate(dice.sample(few, k=dice.randint(2, 4)), 1)
        hits = tuple(Hit(d, rank, f"hash-{d}", 1 / rank, dice.choice([None, 0.5])) for rank, d in ranked)
        return RetrievalServed(
            query_id=QUERY_ID,
            retrieval_id=f"r{number}",
            pipeline_version=f"1.{number}.0",
            hits=hits,
            shadow=dice.random() < 0.2,
        )

    def make_answer(number: int) -> AnswerGiven:
        cited = tuple(Citation(document_id=d) for d in dice.sample(few, k=2))
        return AnswerGiven(query_id=QUERY_ID, answer_id=f"a{number}", citations=cited, cost_usd=0.01)

    def make_feedback() -> FeedbackGiven:
        kind: FeedbackKind = dice.choice(
            ["click", "click", "click", "copy", "dwell", "thumb", "stars", "label"]
        )
        value = {
            "thumb": dice.choice([1, 1, -1]),
            "stars": dice.randint(1, 5),
            "dwell": dice.choice([2, 5, 29, 30, 60]),
            "label": dice.choice([0, 1]),
        }.get(kind)
        if kind == "thumb" and dice.random() < 0.5:
            target = Target(kind="answer", answer_id=dice.choice([None, "a1", "a2"]))
        else:
            named = dice.choice([None, None, "r1", "r2", "r3"])
            target = Target(kind="document", document_id=dice.choice(few), retrieval_id=named)
        rater: Rater = dice.choice(["human", "human", "human", "llm"])
        return FeedbackGiven(query_id=QUERY_ID, kind=kind, target=target, value=value, rater=rater)

    payloads: list[Struct] = [QueryAsked(query_id=QUERY_ID, text="lost card", user="ada")]
    payloads += [make_list(n + 1) for n in range(dice.randint(1, 3))]
    payloads += [make_answer(n + 1) for n in range(dice.randint(0, 2))]
    payloads += [make_feedback() for _ in range(dice.randint(1, 8))]
    return [seal(payload, f"e{n}") for n, payload in enumerate(payloads)]


@st.composite
def record_values(draw: st.DrawFn, *, max_size: int = 8) -> list[bytes]:
    """The values of at least one record of one query.

    Events that collide in everything, a whole search among them or not; some are received again.
    """
    seed = draw(st.none() | st.integers(0, 2**32 - 1)) if max_size > 5 else None
    events = [] if seed is None else random_search(seed)
    chaos = max_size if seed is None else 3
    events += draw(st.lists(sealed(payloads), min_size=int(not events), max_size=chaos))
    again = draw(st.lists(st.sampled_from(events), max_size=3))
    late_s = draw(st.lists(st.integers(0, 20), min_size=len(again), max_size=len(again)))
    events += [received_again(e, s) for e, s in zip(again, late_s, strict=True)]
    return [encode_event(e) for e in draw(st.permutations(events))]


def received_again(event: Event, late_s: int) -> Event:
    """The same event, admitted once more `late_s` seconds after the first time."""
    return replace(event, recordedtime=event.recordedtime + dt.timedelta(seconds=late_s))


def about_query(event: Event, query_id: str) -> Event:
    """The same event about another query."""
    return seal_event(
        replace(decode_payload(event), query_id=query_id),
        id=event.id,
        source=event.source,
        tenant=event.tenant,
        recordedtime=event.recordedtime,
        time=event.time,
        timetrusted=event.timetrusted,
    )
