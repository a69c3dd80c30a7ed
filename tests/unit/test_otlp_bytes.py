"""OTLP of any bytes: nothing raises, both encodings say the same, and what is large takes its time only."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import time
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.admission import Admission
from ingest.formats.items import Undecoded
from ingest.formats.otlp.protobuf import decode_protobuf
from ingest.formats.otlp.traces import OTLP, read_protobuf
from ingest.settings import IngestSettings
from schemas.errors import Rejectable
from tests.unit.http_door import ACME, Site

ADMISSION = Admission(IngestSettings())
RECEIVED = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
NAMES = [
    "openinference.span.kind",
    "gen_ai.operation.name",
    "langfuse.observation.type",
    "input.value",
    "output.value",
    "metadata",
    "tag.tags",
    "user.id",
    "session.id",
    "gen_ai.input.messages",
    "gen_ai.output.messages",
    "gen_ai.retrieval.documents",
    "gen_ai.retrieval.query.text",
    "gen_ai.response.id",
    "gen_ai.usage.input_tokens",
    "llm.token_count.completion",
    "llm.cost.total",
    "llm.input_messages.0.message.role",
    "llm.input_messages.0.message.content",
    "llm.output_messages.0.message.contents.1.message_content.text",
    "retrieval.documents.0.document.id",
    "retrieval.documents.1.document.content",
    "retrieval.documents.1.document.metadata",
    "retrieval.documents.x.document.id",
    "retrieval.documents.99999999999999999999.document.id",
    "reranker.output_documents.3.document.score",
    "annotations.0.annotation.name",
    "annotations.0.annotation.score",
    "trace.annotations.7.annotation.label",
    "session.evaluations.0.evaluation.explanation",
    "annotations.0.annotation.metadata",
    "langfuse.trace.metadata.x",
]
texts = st.one_of(
    st.sampled_from(
        ["LLM", "RETRIEVER", "reranker", "CHAIN", "chat", "retrieval", "generation", "", " ", "why", "1e999"]
    ),
    st.text(max_size=12),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(
                st.sampled_from(["role", "content", "parts", "messages", "id", "score", "text"]), inner
            ),
        ),
        max_leaves=6,
    ).map(json.dumps),
)
scalars = st.one_of(
    texts.map(lambda v: {"stringValue": v}),
    st.booleans().map(lambda v: {"boolValue": v}),
    st.integers(-(2**63), 2**63 - 1).map(lambda v: {"intValue": str(v)}),
    st.floats(-1e30, 1e30).map(lambda v: {"doubleValue": v}),
    st.sampled_from(["NaN", "Infinity", "-Infinity"]).map(lambda v: {"doubleValue": v}),
    st.just({"bytesValue": "AAE="}),
    st.just({}),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda v: {"arrayValue": {"values": v}}),
        st.dictionaries(st.sampled_from(["id", "score", "role", "content"]), inner, max_size=3).map(
            lambda d: {"kvlistValue": {"values": [{"key": k, "value": v} for k, v in d.items()]}}
        ),
    ),
    max_leaves=5,
)
attributes = st.dictionaries(st.sampled_from(NAMES), values, max_size=10).map(
    lambda named: [{"key": key, "value": value} for key, value in named.items()]
)
times = st.sampled_from(["0", "1772443800000000000", "1772443801000000000", "18446744073709551615"])
spans = st.fixed_dictionaries(
    {
        "traceId": st.sampled_from(["a" * 32, "b" * 32]),
        "spanId": st.sampled_from(["c" * 16, "d" * 16]),
        "parentSpanId": st.sampled_from(["", "", "e" * 16]),
        "startTimeUnixNano": times,
        "endTimeUnixNano": times,
        "attributes": attributes,
        "status": st.sampled_from([{}, {"code": 2}, {"code": 2, "message": "down"}]),
        "events": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.sampled_from(["exception", "gen_ai.evaluation.result"]),
                    "timeUnixNano": times,
                    "attributes": st.dictionaries(
                        st.sampled_from(
                            [
                                "gen_ai.evaluation.name",
                                "gen_ai.evaluation.score.value",
                                "gen_ai.evaluation.score.label",
                                "gen_ai.response.id",
                                "exception.message",
                            ]
                        ),
                        values,
                        max_size=4,
                    ).map(lambda named: [{"key": key, "value": value} for key, value in named.items()]),
                }
            ),
            max_size=2,
        ),
    }
)


def request_of(some: list[Any]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "s\x00hop"}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": some}]}]}


def protobuf_of(request: dict[str, Any]) -> bytes:
    """The request in protobuf. protobuf's own JSON has ids in base64; ours are hex of 3 bytes a 4 digits."""
    message = ExportTraceServiceRequest()
    plain = json.loads(json.dumps(request))
    ids = []
    for span in plain["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        ids.append([bytes.fromhex(span.pop(name)) for name in ("traceId", "spanId", "parentSpanId")])
    ParseDict(plain, message)
    if ids:
        for span, (trace_id, span_id, parent_id) in zip(
            message.resource_spans[0].scope_spans[0].spans, ids, strict=True
        ):
            span.trace_id, span.span_id, span.parent_span_id = trace_id, span_id, parent_id
    return bytes(message.SerializeToString())


def comparable(items: list[Any]) -> list[Any]:
    """Items, of those that were refused only why; what was kept of them is JSON either way."""
    return [
        ("refused", item.why.reason, item.why.field) if isinstance(item, Undecoded) else bytes(item)
        for item in items
    ]


@settings(max_examples=200, deadline=None)
@given(st.lists(spans, max_size=3))
def test_both_encodings_say_the_same_and_all_of_it_can_be_admitted_or_refused(some: list[Any]) -> None:
    request = request_of(some)
    from_json = OTLP.decode(json.dumps(request).encode())
    from_protobuf = [
        item for span in decode_protobuf(protobuf_of(request)) for item in read_protobuf(span).items
    ]
    assert comparable(from_json) == comparable(from_protobuf)
    for item in from_json:
        if not isinstance(item, Undecoded):
            ADMISSION.admit(item, tenant="acme", door="otlp", received=RECEIVED)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
@example(b"\x0a\x02\x12\x00")
@example(b'{"resourceSpans":[{"scopeSpans":[{"spans":[null]}]}]}')
@example(b'{"resourceSpans":[{"resource":null,"scopeSpans":[{"scope":null,"spans":[{}]}]}]}')
@example(b'{"resourceSpans":[{"resource":7,"scopeSpans":[{"spans":[{"traceId":"\\ud800"}]}]}]}')
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(Rejectable):
        for span in decode_protobuf(body):
            read_protobuf(span)
    with contextlib.suppress(Rejectable):
        OTLP.decode(body)


@pytest.mark.parametrize("depth", [60, 90, 150, 5000])
def test_arrays_in_arrays_end_somewhere(depth: int) -> None:
    value: bytes = b'{"intValue":1}'
    for _ in range(depth):
        value = b'{"arrayValue":{"values":[' + value + b"]}}"
    body = (
        (b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"' + b"a" * 32 + b'","spanId":"' + b"b" * 16)
        + b'","attributes":[{"key":"input.value","value":' % ()
        + value
        + b"}]}]}]}]}"
    )
    try:
        (*items,) = OTLP.decode(body)
    except Rejectable:
        return
    assert all(isinstance(item, Undecoded) for item in items)


async def test_ten_thousand_spans_in_one_request() -> None:
    some = [
        {
            "traceId": f"{n // 5 + 1:032x}",
            "spanId": f"{n + 1:016x}",
            "parentSpanId": f"{n // 5 * 5 + 1:016x}" if n % 5 else "",
            "startTimeUnixNano": "1772443800000000000",
            "endTimeUnixNano": "1772443801000000000",
            "attributes": [
                {"key": "input.value", "value": {"stringValue": f"question {n}"}},
                {"key": "retrieval.documents.0.document.id", "value": {"stringValue": "d1"}},
                {"key": "openinference.span.kind", "value": {"stringValue": kind}},
            ],
        }
        for n, kind in zip(
            range(10_000), ["CHAIN", "RETRIEVER", "LLM", "TOOL", "EMBEDDING"] * 2000, strict=True
        )
    ]
    site = Site()
    started = time.process_time()
    answer = await site.send(
        "POST",
        "/v1/traces",
        protobuf_of(request_of(some)),
        {**ACME, "content-type": "application/x-protobuf"},
    )
    assert (answer.status_code, answer.content) == (200, b"")
    assert len(site.events()) == 2000 + 2 * 2000 + 2 * 2000
    assert time.process_time() - started < 20
