"""Build the records of one query in a line each: ids and times are given, only what matters is named."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final

from msgspec import Struct

from schemas.codec import seal_event
from schemas.episodes import Episode
from schemas.ids import EventRef
from schemas.interactions import (
    AnswerGiven,
    Citation,
    FeedbackGiven,
    FeedbackKind,
    FeedbackRetracted,
    Hit,
    QueryAsked,
    RetrievalServed,
    Target,
)
from streams.fold import fold_episode
from streams.records import Record, read_record

START: Final = dt.datetime(2025, 3, 1, 12, tzinfo=dt.UTC)
SOURCE: Final = "app"


class QueryStory:
    """The records of query `q-1` of tenant `acme`; every event is received a second after the one before."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def add(self, payload: Struct, id: str, **envelope: Any) -> EventRef:
        envelope = {
            "source": SOURCE,
            "tenant": "acme",
            "recordedtime": START + dt.timedelta(seconds=len(self.records)),
            **envelope,
        }
        event = seal_event(payload, id=id, **envelope)
        self.records.append(read_record(event))
        return event.ref

    def ask(self, text: str = "lost card", id: str = "ask", *, user: str | None = "ada") -> EventRef:
        return self.add(QueryAsked(query_id="q-1", text=text, user=user), id)

    def serve(self, documents: str, retrieval_id: str = "r1", **fields: Any) -> EventRef:
        """Documents in their order, apart by spaces: `d1 d2 d3`."""
        hits = tuple(
            Hit(document, rank, text_hash=f"hash-{document}", score=1 / rank, propensity=0.5)
            for rank, document in enumerate(documents.split(), 1)
        )
        payload = RetrievalServed(
            query_id="q-1", retrieval_id=retrieval_id, pipeline_version="1.0.0", hits=hits, **fields
        )
        return self.add(payload, f"serve-{retrieval_id}")

    def answer(self, citations: str = "", answer_id: str = "a1", **fields: Any) -> EventRef:
        cited = tuple(Citation(document_id=d) for d in citations.split())
        payload = AnswerGiven(query_id="q-1", answer_id=answer_id, citations=cited, **fields)
        return self.add(payload, f"answer-{answer_id}")

    def feel(
        self,
        kind: FeedbackKind,
        value: float | None = None,
        *,
        id: str = "",
        target: Any = None,
        **fields: Any,
    ) -> EventRef:
        """Feedback; `target` holds the fields of a Target."""
        about = Target(**(target or {}))
        payload = FeedbackGiven(query_id="q-1", kind=kind, target=about, value=value, **fields)
        return self.add(payload, id or f"{kind}-{len(self.records)}")

    def click(self, document_id: str, **target: Any) -> EventRef:
        return self.feel("click", target={"kind": "document", "document_id": document_id, **target})

    def retract(self, ref: EventRef) -> EventRef:
        payload = FeedbackRetracted(query_id="q-1", feedback_source=ref.source, feedback_id=ref.id)
        return self.add(payload, f"retract-{ref.id}")

    def fold(self) -> Episode:
        return fold_episode(self.records)
