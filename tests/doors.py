"""One question, told through every door: who tells what of it, and in which words.

A door is an entry of `DOORS`. What it cannot say is told by CloudEvents in its place, so that the whole is
always told.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ingest import shortcuts
from schemas.interactions import (
    AnswerGiven,
    Feedback,
    FeedbackGiven,
    Hit,
    QueryAsked,
    RetrievalServed,
    Target,
)
from schemas.registry import BY_PAYLOAD
from tests.clients import interaction as said
from tests.unit.http_door import ACME, NOW, Site

GOLDEN: Final = Path(__file__).parent / "golden" / "clients"
_ROOT_SPAN_ID: Final = "b000000000000001"
#: What is told of the question, in this order, a second apart.
PARTS: Final = (
    "query",
    "retrieval",
    "answer",
    "click",
    "thumb",
    "rating",
    "relevance",
    "note",
    "correction",
)


class Names(NamedTuple):
    """Under which ids a door speaks of the question."""

    query: str = said.TRACE_ID
    retrieval: str = said.RETRIEVAL_SPAN_ID
    answer: str = said.ANSWER_SPAN_ID


class Part(NamedTuple):
    """One thing to tell, and when it happened (None: the door does not say)."""

    payload: Any
    time: dt.datetime | None


Story = Mapping[str, Part]


class Telling(NamedTuple):
    """An application to tell it to, and when its clock begins."""

    site: Site
    start: dt.datetime

    def arrive(self, part: str) -> None:
        """Set the clock to when a part arrives."""
        self.site.time = self.start + dt.timedelta(seconds=PARTS.index(part))

    async def post(
        self, path: str, body: bytes, media_type: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a request that must be taken whole."""
        headers = {**ACME, **(headers or {}), "content-type": media_type}
        answer = await self.site.send("POST", path, body, headers)
        assert answer.status_code in (200, 202, 207), answer.text
        assert not self.site.rejections(), self.site.rejections()


Send = Callable[[Telling, Story], Awaitable[None]]


class Door(NamedTuple):
    """A way in. `says`: the parts that it can tell; `without`: the fields of them that it cannot."""

    name: str
    send: Send
    says: tuple[str, ...] = PARTS
    without: Mapping[str, Sequence[str]] = {}
    #: Part → what it says otherwise.
    otherwise: Mapping[str, Mapping[str, Any]] = {}
    names: Names = Names()
    #: Whether it says when things happened.
    timed: bool = True
    #: When the doors' clock begins.
    start: dt.datetime = NOW
    #: Who tells the rest.
    rest: Sequence[tuple[Send, tuple[str, ...]]] = ()


def whole_story(door: Door) -> dict[str, Part]:
    """All parts, as far as a door can say them."""
    names = door.names
    about = Target(kind="document", document_id="doc-2", rank=2)
    payloads: tuple[Struct, ...] = (
        QueryAsked(query_id=names.query, text=said.QUESTION, user="u-1", session="s-1"),
        RetrievalServed(
            query_id=names.query,
            retrieval_id=names.retrieval,
            hits=tuple(Hit(f"doc-{rank}", rank, score=1 - rank / 10) for rank in (1, 2, 3)),
            latency_ms=12.5,
        ),
        AnswerGiven(
            query_id=names.query,
            answer_id=names.answer,
            text=said.ANSWER,
            generator="m-1",
            input_tokens=10,
            output_tokens=5,
            latency_ms=250,
        ),
        FeedbackGiven(query_id=names.query, kind="click", target=about),
        FeedbackGiven(query_id=names.query, kind="thumb", value=1, name=said.THUMB),
        FeedbackGiven(
            query_id=names.query,
            kind="score",
            value=said.RATING_VALUE,
            name=said.RATING,
            target=Target(kind="answer", answer_id=names.answer),
        ),
        FeedbackGiven(
            query_id=names.query,
            kind="label",
            value=1,
            name=said.RELEVANCE,
            target=Target(kind="document", retrieval_id=names.retrieval, rank=said.RELEVANT_POSITION + 1),
        ),
        FeedbackGiven(query_id=names.query, kind="comment", text=said.COMMENT, name=said.NOTE),
        FeedbackGiven(query_id=names.query, kind="correction", text=said.CORRECTION, name=said.OUTPUT),
    )
    told = zip(PARTS, payloads, strict=True)
    began = door.start - dt.timedelta(seconds=60)
    return {
        part: Part(_as_said(payload, door, part), began + dt.timedelta(seconds=place))
        for place, (part, payload) in enumerate(told)
    }


def _as_said(payload: Any, door: Door, part: str) -> Any:
    fields = door.without.get(part, ())
    plain: dict[str, Any] = {name: None for name in fields if name != "scores"}
    if "scores" in fields:
        plain["hits"] = tuple(Hit(hit.document_id, hit.rank) for hit in payload.hits)
    return replace(payload, **plain, **door.otherwise.get(part, {}))


def part_of(payload: object) -> str:
    """Which part an event tells."""
    if isinstance(payload, Feedback):
        named = {said.THUMB: "thumb", said.RATING: "rating", said.RELEVANCE: "relevance"}
        others = {"click": "click", "comment": "note", "correction": "correction"}
        return named.get(payload.name) or others[payload.kind]
    kinds: dict[Any, str] = {QueryAsked: "query", RetrievalServed: "retrieval", AnswerGiven: "answer"}
    return kinds[type(payload)]


def cloud_event(part: str, told: Part, source: str = "urn:app") -> dict[str, Any]:
    """A CloudEvent as applications write it."""
    event = {
        "specversion": "1.0",
        "id": f"e-{part}",
        "source": source,
        "type": BY_PAYLOAD[type(told.payload)].name,
        "data": msgspec.to_builtins(told.payload),
    }
    return event if told.time is None else {**event, "time": told.time.isoformat()}


async def tell(telling: Telling, story: Story) -> None:
    """Tell a story in the plainest way: CloudEvents, one by one."""
    for part, told in story.items():
        telling.arrive(part)
        await telling.post("/v1/events", _json(cloud_event(part, told)), "application/cloudevents+json")


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


async def _batch(telling: Telling, story: Story) -> None:
    events = [cloud_event(part, told) for part, told in story.items()]
    await telling.post("/v1/events", _json(events), "application/cloudevents-batch+json")


async def _lines(telling: Telling, story: Story) -> None:
    lines = [_json(cloud_event(part, told)) for part, told in reversed(list(story.items()))]
    await telling.post("/v1/events", b"\n".join(lines), "application/x-ndjson")


async def _binary(telling: Telling, story: Story) -> None:
    for part, told in story.items():
        event = cloud_event(part, told, source="urn:app with a space")
        data = event.pop("data")
        headers = {f"ce-{name}": quote(value, safe=":+") for name, value in event.items()}
        await telling.post("/v1/events", _json(data), "application/json", headers)


async def _shortcuts(telling: Telling, story: Story) -> None:
    paths: dict[Any, str] = {
        QueryAsked: shortcuts.QUERIES.path,
        RetrievalServed: shortcuts.RETRIEVALS.path,
        AnswerGiven: shortcuts.ANSWERS.path,
        FeedbackGiven: shortcuts.FEEDBACK.path,
    }
    for part, told in story.items():
        assert told.time is not None
        body = {**msgspec.to_builtins(told.payload), "time": told.time.isoformat()}
        key = {"idempotency-key": f"k-{part}"}
        await telling.post(paths[type(told.payload)], _json(body), "application/json", key)


async def _otlp(telling: Telling, story: Story) -> None:
    await telling.post("/v1/traces", _json(_spans(story)), "application/json")


def _spans(story: Story) -> dict[str, Any]:
    """The question as OpenInference's spans, children first; what was said of it stands on a span, too."""
    query, retrieval, answer = (story[part].payload for part in PARTS[:3])
    listed: dict[str, Any] = {}
    for place, hit in enumerate(retrieval.hits):
        listed[f"retrieval.documents.{place}.document.id"] = hit.document_id
        listed[f"retrieval.documents.{place}.document.score"] = hit.score
    spoken: dict[str, Any] = {
        "llm.model_name": answer.generator,
        "output.value": answer.text,
        "llm.token_count.prompt": answer.input_tokens,
        "llm.token_count.completion": answer.output_tokens,
    }
    asked: dict[str, Any] = {"input.value": query.text, "user.id": query.user, "session.id": query.session}
    spans = [
        _span(story, "answer", answer.answer_id, "LLM", spoken),
        _span(story, "retrieval", retrieval.retrieval_id, "RETRIEVER", listed),
        _span(story, "query", _ROOT_SPAN_ID, "CHAIN", asked),
    ]
    if "thumb" in story:
        spans.append(_span(story, "thumb", "b000000000000002", "EVALUATOR", _note(story, "thumb")))
    return {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}


def _note(story: Story, part: str) -> dict[str, Any]:
    feedback = story[part].payload
    key = "trace.annotations.0.annotation"
    return {
        f"{key}.name": feedback.name,
        f"{key}.score": feedback.value,
        f"{key}.annotator_kind": "HUMAN",
    }


def _span(story: Story, part: str, span_id: str, kind: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    told = story[part]
    assert told.time is not None
    # a query is told when it begins, the others when they end
    ended = told.time + dt.timedelta(milliseconds=1000 if part == "query" else 0)
    took = getattr(told.payload, "latency_ms", None) or (1000 if part == "query" else 0)
    kinds = {**attributes, "openinference.span.kind": kind}
    return {
        "traceId": story["query"].payload.query_id,
        "spanId": span_id,
        "parentSpanId": "" if span_id == _ROOT_SPAN_ID else _ROOT_SPAN_ID,
        "name": part,
        "startTimeUnixNano": str(_nanoseconds(ended - dt.timedelta(milliseconds=took))),
        "endTimeUnixNano": str(_nanoseconds(ended)),
        "attributes": [{"key": key, "value": _any(value)} for key, value in kinds.items()],
    }


def _nanoseconds(time: dt.datetime) -> int:
    return round((time - dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) / dt.timedelta(microseconds=1)) * 1000


def _any(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        return {"stringValue": value}
    return {"intValue": str(value)} if isinstance(value, int) else {"doubleValue": value}


async def _ubi(telling: Telling, story: Story) -> None:
    query, retrieval = story["query"], story["retrieval"]
    assert query.time is not None
    asked = query.payload
    pieces: list[dict[str, Any]] = [
        {
            "query_id": asked.query_id,
            "user_query": asked.text,
            "user_id": asked.user,
            "session_id": asked.session,
            "timestamp": query.time.isoformat(),
            "query_response_id": retrieval.payload.retrieval_id,
            "query_response_hit_ids": [hit.document_id for hit in retrieval.payload.hits],
        }
    ]
    for part in ("click", "thumb"):
        told = story[part]
        assert told.time is not None
        pieces.append(
            {
                "action_name": told.payload.name or "click",
                "query_id": told.payload.query_id,
                "timestamp": told.time.isoformat(),
                "event_attributes": {
                    "object": {"object_id": told.payload.target.document_id},
                    "position": {"ordinal": told.payload.target.rank},
                },
            }
        )
    await telling.post("/v1/ubi", b"\n".join(map(_json, pieces)), "application/x-ndjson")


async def _langfuse_traces(telling: Telling, story: Story) -> None:
    query, answer = story["query"], story["answer"]
    assert query.time is not None
    assert answer.time is not None
    began = answer.time - dt.timedelta(milliseconds=answer.payload.latency_ms)
    usage = {"input": answer.payload.input_tokens, "output": answer.payload.output_tokens}
    asked: dict[str, Any] = {"id": query.payload.query_id, "input": query.payload.text}
    batch = [
        _entry(query.time, "trace-create", {**asked, "userId": "u-1", "sessionId": "s-1"}),
        _entry(
            answer.time,
            "generation-create",
            {
                "id": answer.payload.answer_id,
                "traceId": answer.payload.query_id,
                "model": answer.payload.generator,
                "output": answer.payload.text,
                "usage": usage,
                "startTime": began.isoformat(),
                "endTime": answer.time.isoformat(),
            },
        ),
    ]
    await telling.post("/api/public/ingestion", _json({"batch": batch}), "application/json")


def _entry(time: dt.datetime, type_: str, body: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": f"entry-{type_}", "type": type_, "timestamp": time.isoformat(), "body": body}


def recorded(name: str) -> list[dict[str, Any]]:
    """The requests that a real client sent, in order (`tests.clients`)."""
    exchanges = json.loads((GOLDEN / f"{name}.json").read_text())["exchanges"]
    return [exchange for exchange in exchanges if exchange["method"] == "POST"]


def _recording(name: str) -> Send:
    """Sends what a real client sent first: a part a request, or all of them in one."""

    async def send(telling: Telling, story: Story) -> None:
        for part, exchange in zip(story, recorded(name), strict=False):
            telling.arrive(part)
            body: bytes = exchange["body"].encode()
            answer = await telling.site.send("POST", exchange["path"], body, exchange["headers"])
            assert (answer.status_code, answer.text) == (exchange["status"], exchange["answer"])
            if name.startswith("langfuse"):
                break
        assert not telling.site.rejections()

    return send


def _recorded_at(name: str) -> dt.datetime:
    """A moment after everything in a recording."""
    texts = " ".join(exchange.get("body", "") for exchange in recorded(name))
    times = re.findall(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", texts)
    return max(map(dt.datetime.fromisoformat, times)).replace(microsecond=0) + dt.timedelta(seconds=1)


_NO_LATENCY: Final = {"retrieval": ("latency_ms", "scores")}
#: A span that turned out to be an answer is one; which span it was is kept.
_ON_A_SPAN: Final = {
    "rating": {"target": Target(kind="answer", answer_id=said.ANSWER_SPAN_ID, span_id=said.ANSWER_SPAN_ID)}
}
_LANGFUSE: Final = ("thumb", "note", "correction")
_UUIDS: Final = Names(query=said.EPISODE_ID, answer=said.INFERENCE_ID)

DOORS: Final = (
    Door("http batch", _batch),
    Door("http lines", _lines),
    Door("http binary", _binary),
    Door("shortcuts", _shortcuts),
    Door("otlp", _otlp, says=("query", "retrieval", "answer", "thumb")),
    Door("ubi", _ubi, says=("query", "retrieval", "click", "thumb"), without=_NO_LATENCY),
    Door("langfuse traces", _langfuse_traces, says=("query", "answer")),
    *(
        Door(name, _recording(name), says=_LANGFUSE, start=_recorded_at(name))
        for name in ("langfuse_3", "langfuse_4", "langfuse_5")
    ),
    Door("tensorzero", _recording("tensorzero"), says=("thumb", "rating"), names=_UUIDS, timed=False),
    Door("mlflow", _recording("mlflow"), says=("thumb", "correction"), start=_recorded_at("mlflow")),
    Door(
        "phoenix",
        _recording("phoenix"),
        says=("thumb", "rating", "relevance"),
        otherwise=_ON_A_SPAN,
        timed=False,
        # only who traces knows spans
        rest=((_otlp, ("query", "retrieval", "answer")),),
    ),
)
