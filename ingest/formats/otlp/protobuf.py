"""OTLP in protobuf → spans, by OpenTelemetry's own classes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from ingest.formats.otlp.spans import Attributes, Span, SpanEvent, check_ids, service_of
from schemas.errors import Reason, Rejectable


class ProtobufSpan(Struct, frozen=True):
    """A span of a protobuf request, with its resource and scope, not yet looked at."""

    message: Any
    scope: Any
    resource: Any

    def read(self) -> Span:
        """The span. Raises Rejectable: its ids are none."""
        span = self.message
        trace_id, span_id, parent_id = (
            raw.hex() for raw in (span.trace_id, span.span_id, span.parent_span_id)
        )
        check_ids(trace_id, span_id, parent_id)
        return Span(
            trace_id=trace_id,
            span_id=span_id,
            parent_id=parent_id,
            flags=span.flags,
            start_ns=span.start_time_unix_nano,
            end_ns=span.end_time_unix_nano,
            attributes=_from_messages(span.attributes),
            events=tuple(
                SpanEvent(one.name, one.time_unix_nano, _from_messages(one.attributes)) for one in span.events
            ),
            failed=span.status.code == 2,
            status_message=span.status.message,
            service=service_of(_from_messages(self.resource.attributes)),
        )

    def piece(self) -> bytes:
        """The span as a request of its own, in OTLP's JSON."""
        span = MessageToDict(self.message)
        for name, raw in (
            ("traceId", self.message.trace_id),
            ("spanId", self.message.span_id),
            ("parentSpanId", self.message.parent_span_id),
        ):
            if raw:
                span[name] = raw.hex()
        for link, message in zip(span.get("links", ()), self.message.links, strict=False):
            link.update(traceId=message.trace_id.hex(), spanId=message.span_id.hex())
        scoped = {"scope": MessageToDict(self.scope), "spans": [span]}
        resource = {"resource": MessageToDict(self.resource), "scopeSpans": [scoped]}
        return msgspec.json.encode({"resourceSpans": [resource]})


def decode_protobuf(body: bytes) -> list[ProtobufSpan]:
    """The spans of an ExportTraceServiceRequest. Raises Rejectable: the bytes are none."""
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise Rejectable(
            Reason.INVALID_VALUE, f"expected an ExportTraceServiceRequest in protobuf, but: {error}"
        ) from error
    return [
        ProtobufSpan(span, scoped.scope, resource.resource)
        for resource in request.resource_spans
        for scoped in resource.scope_spans
        for span in scoped.spans
    ]


def _from_messages(attributes: Iterable[Any]) -> Attributes:
    return {one.key: _from_message(one.value) for one in attributes}


def _from_message(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_from_message(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return _from_messages(value.kvlist_value.values)
    return getattr(value, kind)
