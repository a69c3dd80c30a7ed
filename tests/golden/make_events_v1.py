"""Made the golden log of schema version 1: `python -m tests.golden.make_events_v1` at the project's root.

`events_v1.jsonl` holds values of records as they stand on the topics, one a line, in an order that a log may
have: the rules of folding in a few queries of two tenants, then one of every other event type, from
`schemas/examples` as they were. It is made once and never again; today's code has to read it for ever.
`episodes_v1_fold_<n>.jsonl` is what fold version n makes of it: with a new FOLD_VERSION, run this again,
read the difference to the file before, and commit both.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas import topics
from schemas.codec import encode_event, seal_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.interactions import (
    AnswerGiven,
    Citation,
    Exposure,
    FeedbackGiven,
    FeedbackRetracted,
    Hit,
    QueryAsked,
    RetrievalServed,
    Target,
)
from schemas.registry import BY_NAME, EVENT_TYPES
from streams.fold import FOLD_VERSION, fold_episode
from streams.records import Record, decode_record

HERE: Final = Path(__file__).parent
EXAMPLES: Final = HERE.parents[1] / "schemas" / "examples"
EVENTS: Final = HERE / "events_v1.jsonl"
START: Final = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)


def episodes_file(fold_version: int) -> Path:
    """What this version of the fold makes of the log."""
    return HERE / f"episodes_v1_fold_{fold_version}.jsonl"


def fold_log(lines: list[bytes]) -> list[Episode]:
    """The episodes of all queries in the log, in the order of tenant and query_id."""
    queries: dict[tuple[str, str], list[Record]] = {}
    for line in lines:
        record = decode_record(line)
        if BY_NAME[record.event.type].topic == topics.INTERACTIONS:
            queries.setdefault(record.key[:2], []).append(record)
    return [fold_episode(queries[key]) for key in sorted(queries)]


class _Log:
    """Seals payloads; each is received a second after the one before, and happened half a second earlier."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.events: list[Event] = []

    def add(self, id: str, payload: Struct, *, at_s: float | None = 0.5, source: str = "shop") -> Event:
        received = START + dt.timedelta(seconds=len(self.events))
        event = seal_event(
            payload,
            id=id,
            source=source,
            tenant=self.tenant,
            recordedtime=received,
            time=None if at_s is None else received - dt.timedelta(seconds=at_s),
        )
        self.events.append(event)
        return event

    def again(self, event: Event, *, late_s: int) -> None:
        self.events.append(replace(event, recordedtime=event.recordedtime + dt.timedelta(seconds=late_s)))


def _list(query_id: str, retrieval_id: str, documents: str, *, shadow: bool = False) -> RetrievalServed:
    hits = tuple(
        Hit(d, rank, hashlib.sha256(d.encode()).hexdigest(), 0.875 / rank, 0.95)
        for rank, d in enumerate(documents.split(), 1)
    )
    return RetrievalServed(
        query_id=query_id,
        retrieval_id=retrieval_id,
        pipeline_version="1.1.0" if shadow else "1.0.0",
        hits=hits,
        shadow=shadow,
        latency_ms=12.5,
    )


def _on(document_id: str, retrieval_id: str | None = None) -> Target:
    return Target(kind="document", document_id=document_id, retrieval_id=retrieval_id)


def queries_of(tenant: str) -> Iterator[Event]:
    """A query for each rule of folding; both tenants use the same ids."""
    log = _Log(tenant)
    q = "q-plain"
    exposures = (Exposure("ranker", "b"),)
    asked = log.add(
        "1",
        QueryAsked(
            query_id=q,
            text=f"lost card ({tenant})",
            user="ada",
            attributes={"beta": True},
            exposures=exposures,
        ),
    )
    log.add("2", _list(q, "r1", "d1 d2 d3 d4"))
    log.add("3", _list(q, "r2", "d4 d3", shadow=True))
    log.add("4", FeedbackGiven(query_id=q, kind="click", target=_on("d3", "r1")))
    log.add("5", FeedbackGiven(query_id=q, kind="dwell", value=42.5, target=_on("d3")))
    log.again(asked, late_s=600)

    q = "q-answered"
    log.add("10", QueryAsked(query_id=q, text="Wie sperre ich die Karte? 💳", session="s-1"))
    log.add("11", _list(q, "r1", "d1 d2"))
    cited = (Citation("d2", 2), Citation("d9"))
    log.add("12", AnswerGiven(query_id=q, answer_id="a1", text="Call us.", citations=cited, cost_usd=0.002))
    log.add(
        "13", FeedbackGiven(query_id=q, kind="thumb", value=1.0, target=Target(kind="answer", answer_id="a1"))
    )
    log.add(
        "14", FeedbackGiven(query_id=q, kind="stars", value=4.0, target=_on("d1"), rater="llm", name="judge")
    )
    log.add("15", FeedbackGiven(query_id=q, kind="follow_up", text="and abroad?"))

    q = "q-waiting"
    log.add("20", FeedbackGiven(query_id=q, kind="click", target=_on("d1")))
    log.add("21", FeedbackRetracted(query_id=q, feedback_source="shop", feedback_id="not-yet"))

    q = "q-retracted"
    log.add("30", FeedbackRetracted(query_id=q, feedback_source="shop", feedback_id="33"))
    log.add("31", QueryAsked(query_id=q, text="fees", device="phone-1"))
    log.add("32", _list(q, "r1", "d1 d2 d3"))
    log.add("33", FeedbackGiven(query_id=q, kind="click", target=_on("d3")))
    log.add("34", FeedbackGiven(query_id=q, kind="click", target=_on("d2")))
    log.add("35", FeedbackRetracted(query_id=q, feedback_source="shop", feedback_id="34"))
    log.add("36", FeedbackGiven(query_id=q, kind="label", value=0.0, target=_on("d8")))

    q = "q-conflict"
    log.add("40", QueryAsked(query_id=q, text="limit", user="ada"))
    log.add("40", QueryAsked(query_id=q, text="limits", user="bob"))
    log.add("41", QueryAsked(query_id=q, text="limit", user="eve"), source="app")
    log.add("42", _list(q, "r1", "d1"), at_s=30 * 86_400)
    log.add("43", _list(q, "r1", "d2"), at_s=None)
    log.add("44", FeedbackGiven(query_id=q, kind="click", target=_on("d7")))
    yield from log.events


def examples() -> Iterator[Event]:
    """One event of every type that is about no query."""
    for number, event_type in enumerate(EVENT_TYPES):
        if event_type.topic == topics.INTERACTIONS:
            continue
        document = msgspec.json.decode((EXAMPLES / f"{event_type.short}.json").read_bytes())
        payload = msgspec.convert(document["data"], event_type.payload)
        received = START + dt.timedelta(minutes=number)
        yield seal_event(
            payload, id=f"example-{number}", source="learner", tenant="acme", recordedtime=received
        )


def main() -> None:
    if not EVENTS.exists():
        ours, theirs = list(queries_of("acme")), list(queries_of("umbrella"))
        mixed = [event for pair in zip(reversed(ours), theirs, strict=True) for event in pair]
        EVENTS.write_bytes(b"".join(encode_event(e) + b"\n" for e in [*mixed, *examples()]))
    expected = episodes_file(FOLD_VERSION)
    if not expected.exists():
        episodes = fold_log(EVENTS.read_bytes().splitlines())
        expected.write_bytes(b"".join(msgspec.json.encode(e) + b"\n" for e in episodes))


if __name__ == "__main__":
    main()
