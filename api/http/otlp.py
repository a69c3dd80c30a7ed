"""OTLP/HTTP: POST /v1/traces takes what an OpenTelemetry exporter sends, as protobuf and as JSON.

Exporters look at the status alone: 200 is done, 503 and 429 with `Retry-After` are sent again, anything else
is thrown away. So 200 means durable, what is refused included (it is in `rejected`, and in `partialSuccess`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from api.http.bodies import AnyRequest, check_nesting, media_type_of
from api.http.door import Door
from api.http.operation import BODY_REFUSALS, PROBLEM, Json, Operation
from api.http.problems import Problem, retry_after
from ingest.formats.items import Item
from ingest.formats.otlp.protobuf import decode_protobuf
from ingest.formats.otlp.traces import OTLP, SpanEvents, read_piece, read_protobuf
from ingest.formats.registry import FORMAT_HEADER
from ingest.intake import Outcome
from ingest.ports import Grant
from ingest.strict import MAX_NAME_CHARACTERS
from schemas.errors import Rejectable

PROTOBUF: Final = "application/x-protobuf"
JSON: Final = "application/json"
#: The second is where Langfuse's clients send theirs.
PATHS: Final = ("/v1/traces", "/api/public/otel/v1/traces")
#: Spans that are read before other requests get their turn.
_SPANS_A_TURN: Final = 50


def otlp_routes(door: Door) -> list[HTTPRouteHandler]:
    """The routes of this module."""

    @post(list(PATHS), status_code=200)
    async def export_traces(request: AnyRequest) -> Response[bytes]:
        sender = door.sender(request)
        media_type = media_type_of(request)
        if media_type not in (PROTOBUF, JSON):
            raise Problem(
                415,
                "unsupported-media-type",
                f"expected {PROTOBUF} or {JSON}, got {media_type[:100] or 'nothing'!r}",
            )
        body = await door.read(request)
        try:
            spans = await _read(body, media_type)
        except Problem as problem:
            await door.refuse_whole(body, sender, _kept(request, media_type), problem, door=OTLP.name)
        for outcome, number in Counter(span.outcome for span in spans).items():
            door.metrics.count_spans(outcome, number)
        outcomes = await _take(door, request, sender, spans)
        return _answer(outcomes, spans, media_type)

    return [export_traces]


async def _read(body: bytes, media_type: str) -> list[SpanEvents]:
    """The events of every span. Raises Problem 400 if the body is no request of OTLP's."""
    try:
        if media_type == PROTOBUF:
            return await _in_turns(decode_protobuf(body), read_protobuf)
        check_nesting(body)
        return await _in_turns(OTLP.split(body), read_piece)
    except Rejectable as why:
        raise Problem(400, "unparseable", why.message, extensions={"field": why.field}) from why


async def _in_turns(spans: Sequence[Any], read: Callable[[Any], SpanEvents]) -> list[SpanEvents]:
    done: list[SpanEvents] = []
    for start in range(0, len(spans), _SPANS_A_TURN):
        done += map(read, spans[start : start + _SPANS_A_TURN])
        await asyncio.sleep(0)
    return done


async def _take(door: Door, request: AnyRequest, sender: Grant, spans: Sequence[SpanEvents]) -> list[Outcome]:
    """What became of every event. Raises Problem: 503 if any is unconfirmed, 429 too many a second."""
    items: list[Item] = [item for span in spans for item in span.items]
    headers = _kept(request, JSON)
    outcomes: list[Outcome] = []
    # a request of 10,000 spans makes more events than a door takes at once, and must not be refused for it
    for start in range(0, len(items), door.settings.max_events):
        part = items[start : start + door.settings.max_events]
        receipt = await door.take(part, sender, headers, door=OTLP.name)
        if receipt.unconfirmed:
            raise Problem(
                503,
                "unconfirmed",
                f"{receipt.unconfirmed} of {len(items)} events are not confirmed; export the whole request "
                "again: what is stored twice counts once",
                headers=retry_after(receipt.retry_after_s or 1.0),
            )
        outcomes += receipt.results
    return outcomes


def _kept(request: AnyRequest, media_type: str) -> dict[str, str]:
    """Headers that are kept with a rejection. What is kept of a span is JSON, however it came."""
    return {
        "content-type": media_type,
        "path": request.url.path[:MAX_NAME_CHARACTERS],
        FORMAT_HEADER: OTLP.name,
    }


def _answer(outcomes: Sequence[Outcome], spans: Sequence[SpanEvents], media_type: str) -> Response[bytes]:
    """An ExportTraceServiceResponse; a span of which any event was refused counts as rejected."""
    rejected, first = 0, ""
    position = 0
    for span in spans:
        of_span = outcomes[position : position + len(span.items)]
        position += len(span.items)
        refused = [one for one in of_span if one.status == "rejected"]
        rejected += bool(refused)
        if refused and not first:
            first = f"{refused[0].message} ({OTLP.field_of(refused[0].field) or 'the span'})"
    if media_type == JSON:
        partial = {"partialSuccess": {"rejectedSpans": str(rejected), "errorMessage": first}}
        return Response(msgspec.json.encode(partial if rejected else {}), media_type=JSON)
    response = ExportTraceServiceResponse()
    if rejected:
        response.partial_success.rejected_spans = rejected
        response.partial_success.error_message = first
    return Response(response.SerializeToString(), media_type=PROTOBUF)


_ANY: Final[Json] = {"type": "object"}
_EXAMPLE_SPAN: Final[Json] = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "ask",
    "startTimeUnixNano": "1772443800000000000",
    "endTimeUnixNano": "1772443801000000000",
    "attributes": [
        {"key": "openinference.span.kind", "value": {"stringValue": "CHAIN"}},
        {"key": "input.value", "value": {"stringValue": "how do I pay"}},
    ],
}


def otlp_operations() -> tuple[Operation, ...]:
    """The routes of this module, as the description shows them."""
    return tuple(
        Operation(
            method="post",
            path=path,
            summary=f"Send OpenTelemetry traces{about}",
            description=(
                "ExportTraceServiceRequest. OpenInference and GenAI spans become queries (the trace id is "
                "the query_id), retrievals, answers and feedback; what says nothing is counted. 200: all are "
                "durable; `partialSuccess` counts the spans that were refused, and they are in `rejected`."
            ),
            scope="send",
            body={JSON: _ANY, PROTOBUF: {"description": "ExportTraceServiceRequest"}},
            example={"resourceSpans": [{"scopeSpans": [{"spans": [_EXAMPLE_SPAN]}]}]},
            answers={
                "200": ("ExportTraceServiceResponse", JSON, _ANY),
                "429": PROBLEM,
                **BODY_REFUSALS,
            },
        )
        for path, about in zip(PATHS, ("", ", as Langfuse's clients do"), strict=True)
    )
