"""Feedback that knows a span or an answer only, sent before the trace: through the doors and the worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from schemas.codec import decode_payload, encode_event
from schemas.envelope import Event
from schemas.interactions import FeedbackGiven, Target
from schemas.topics import record_key
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Message
from streams.settings import StreamSettings
from streams.waiting import ReferenceResolver
from tests.unit.http_door import Site

TRACE, SEARCH, MODEL = "c" * 32, "d" * 15 + "1", "d" * 15 + "2"


def spans() -> list[dict[str, Any]]:
    def span(span_id: str, kind: str, attributes: dict[str, Any]) -> dict[str, Any]:
        named = {**attributes, "openinference.span.kind": kind}
        return {
            "traceId": TRACE,
            "spanId": span_id,
            "parentSpanId": "e" * 16,
            "startTimeUnixNano": "1772443700000000000",
            "endTimeUnixNano": "1772443700100000000",
            "attributes": [{"key": key, "value": {"stringValue": value}} for key, value in named.items()],
        }

    return [
        span(
            SEARCH,
            "RETRIEVER",
            {
                "input.value": "how do I pay",
                "retrieval.documents.0.document.id": "d1",
                "retrieval.documents.1.document.id": "d2",
            },
        ),
        span(MODEL, "LLM", {"output.value": "by card", "gen_ai.response.id": "resp-1"}),
    ]


class Interactions:
    """Appends to the log that the worker reads."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def append(self, events: Sequence[Event]) -> None:
        await self._site.log.append(events)


async def fold(site: Site) -> MemoryStore:
    """What the worker makes of the whole log."""
    store = MemoryStore()
    resolver = ReferenceResolver(store, Interactions(site), retry_for_s=1.0)
    processor = BatchProcessor(store, store, MemoryLog(), StreamSettings(), resolver=resolver)
    for topic in ("waiting", "interactions"):
        messages = [
            Message(topic, 0, offset, record_key(e.tenant, e.subject), encode_event(e), 0)
            for offset, e in enumerate(site.events(topic))
        ]
        await processor.process(topic, messages)
    return store


@pytest.mark.parametrize("late", [False, True])
async def test_feedback_finds_its_query_whichever_comes_first(late: bool) -> None:
    site = Site()

    async def trace() -> None:
        body = {"resourceSpans": [{"scopeSpans": [{"spans": spans()}]}]}
        assert (await site.send("POST", "/v1/traces", body)).status_code == 200

    if late:
        await trace()
    annotations = [
        {"span_id": MODEL, "name": "thumbs", "annotator_kind": "HUMAN", "result": {"label": "👍"}},
        {"span_id": SEARCH, "name": "quality", "annotator_kind": "LLM", "result": {"score": 0.5}},
    ]
    assert (await site.send("POST", "/v1/span_annotations", {"data": annotations})).status_code == 200
    of_document = {
        "span_id": SEARCH,
        "document_position": 1,
        "name": "relevance",
        "annotator_kind": "HUMAN",
        "result": {"label": "relevant"},
    }
    assert (await site.send("POST", "/v1/document_annotations", {"data": [of_document]})).status_code == 200
    score = {"metric_name": "helpful", "value": True, "inference_id": "resp-1"}
    assert (await site.send("POST", "/feedback", score)).status_code == 200
    if not late:
        await trace()

    store = await fold(site)
    assert site.rejections() == []
    given = [decode_payload(event) for event in site.events()]
    targets = {one.name: one.target for one in given if isinstance(one, FeedbackGiven)}
    answer = Target(kind="answer", answer_id=MODEL)
    assert targets == {
        "thumbs": Target(kind="answer", answer_id=MODEL, span_id=MODEL),
        "quality": Target(kind="retrieval", retrieval_id=SEARCH, span_id=SEARCH),
        "relevance": Target(kind="document", retrieval_id=SEARCH, rank=2),
        "helpful": answer,
    }
    (episode,) = store.rows("episodes")
    assert (episode["query_id"], episode["text"], episode["thumbs_up"]) == (TRACE, "how do I pay", 2)
    assert (episode["pair_document_id"], episode["pair_label"]) == (["d2"], [1])
