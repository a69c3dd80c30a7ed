"""Events and messages for tests of the streams: short to write, with times in seconds after one start."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.codec import encode_event, seal_event
from schemas.documents import DocumentRemoved, DocumentStored
from schemas.envelope import Event
from schemas.interactions import (
    Exposure,
    FeedbackGiven,
    FeedbackRetracted,
    Hit,
    QueryAsked,
    RetrievalServed,
    Target,
)
from schemas.registry import BY_NAME
from schemas.topics import record_key
from streams.ports import Message

START: Final = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)


def sealed(payload: Struct, event_id: str, *, at_s: float = 0.0, tenant: str = "acme", **more: Any) -> Event:
    """The event of a payload, received `at_s` seconds after the start."""
    moment = START + dt.timedelta(seconds=at_s)
    fields: dict[str, Any] = {"source": "shop", "time": moment, "recordedtime": moment, **more}
    return seal_event(payload, id=event_id, tenant=tenant, **fields)


def asked(query_id: str, *, user: str | None = "ada", arm: str = "", at_s: float = 0.0, **more: Any) -> Event:
    """A question, in an arm of experiment `exp` if one is named."""
    exposures = (Exposure("exp", arm),) if arm else ()
    payload = QueryAsked(query_id=query_id, text=f"question {query_id}", user=user, exposures=exposures)
    return sealed(payload, f"{query_id}-asked", at_s=at_s, **more)


def served(query_id: str, documents: Sequence[str] = ("d1", "d2", "d3"), **more: Any) -> Event:
    """A list of these documents, `r-<query>`, by version 1.0.0."""
    payload = RetrievalServed(
        query_id=query_id,
        retrieval_id=f"r-{query_id}",
        pipeline_version="1.0.0",
        hits=tuple(Hit(document, rank, score=1.0 / rank) for rank, document in enumerate(documents, 1)),
        latency_ms=12.5,
    )
    return sealed(payload, f"{query_id}-served", **more)


def clicked(query_id: str, document: str = "d2", event_id: str = "", **more: Any) -> Event:
    """A click on a document."""
    payload = FeedbackGiven(
        query_id=query_id, kind="click", target=Target(kind="document", document_id=document)
    )
    return sealed(payload, event_id or f"{query_id}-click", **more)


def retracted(query_id: str, feedback_id: str, **more: Any) -> Event:
    """The retraction of a piece of feedback of the same source."""
    payload = FeedbackRetracted(query_id=query_id, feedback_source="shop", feedback_id=feedback_id)
    return sealed(payload, f"{feedback_id}-retracted", **more)


def stored(document_id: str, text: str, event_id: str, **more: Any) -> Event:
    """A document with this text."""
    return sealed(DocumentStored(document_id=document_id, text=text), event_id, **more)


def removed(document_id: str, event_id: str, **more: Any) -> Event:
    """The removal of a document."""
    return sealed(DocumentRemoved(document_id=document_id), event_id, **more)


def conversation(
    query_id: str, *, user: str | None = "ada", arm: str = "", at_s: float = 0.0, **more: Any
) -> list[Event]:
    """A question, its list and a click: one pair of label 1 for d2."""
    return [
        asked(query_id, user=user, arm=arm, at_s=at_s, **more),
        served(query_id, at_s=at_s + 1, **more),
        clicked(query_id, at_s=at_s + 2, **more),
    ]


def received_again(event: Event, *, at_s: float) -> Event:
    """The same event, admitted a second time: equal content, another received time."""
    return replace(event, recordedtime=START + dt.timedelta(seconds=at_s))


def messages_of(events: Iterable[Event], *, first_offset: int = 0, partition: int = 0) -> list[Message]:
    """The events as they are read from their topic."""
    return [
        Message(
            BY_NAME[event.type].topic,
            partition,
            offset,
            record_key(event.tenant, event.subject),
            encode_event(event),
            int(event.recordedtime.timestamp() * 1000),
        )
        for offset, event in enumerate(events, first_offset)
    ]
