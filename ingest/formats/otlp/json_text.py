"""OTLP in JSON → spans, by its own rules: ids are hex, large numbers are texts."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct

from ingest.formats.otlp.spans import Attributes, Span, SpanEvent, check_ids, service_of
from ingest.formats.pieces import Piece, decode_piece, invalid
from ingest.refusals import DECODER_ERRORS, refuse_json, refuse_piece
from schemas.errors import Rejectable

_INT64: Final = range(-(2**63), 2**63)
_UINT64: Final = range(2**64)
#: Values within values; what attributes hold is far below.
_DEEPEST: Final = 64
_FAILED: Final = (2, "2", "STATUS_CODE_ERROR")


class _ScopeSpans(Struct):
    spans: list[Raw] = []
    scope: Raw = Raw(b"{}")


class _ResourceSpans(Struct, rename="camel"):
    scope_spans: list[_ScopeSpans] = []
    resource: Raw = Raw(b"{}")


class _Request(Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] = []


class _KeyValue(Struct):
    key: str
    value: Any = None


class _Resource(Struct):
    attributes: list[_KeyValue] = []


class _Status(Struct):
    code: int | str = 0
    message: str = ""


class _SpanEvent(Struct, rename="camel"):
    name: str = ""
    time_unix_nano: int | str = 0
    attributes: list[_KeyValue] = []


class _Span(Struct, rename="camel"):
    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    flags: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_KeyValue] = []
    events: list[_SpanEvent] = []
    status: _Status | None = None


_decode_request: Final = msgspec.json.Decoder(_Request).decode
_decode_span: Final = msgspec.json.Decoder(_Span).decode
_decode_resource: Final = msgspec.json.Decoder(_Resource).decode


def split_traces(body: bytes) -> Sequence[Piece]:
    """A request in OTLP's JSON, or one a line: a piece is a span as a request of its own, or a bad line.

    Raises Rejectable if it is none of this.
    """
    try:
        return list(_cut(_decode_request(body)))
    except msgspec.ValidationError as error:
        raise refuse_piece(error, "an ExportTraceServiceRequest") from error
    except DECODER_ERRORS as error:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) < 2:
            raise refuse_json(error, field="") from error
        return [piece for line in lines for piece in _cut_line(line)]


def _cut_line(line: bytes) -> Iterable[Piece]:
    try:
        return list(_cut(_decode_request(line)))
    except DECODER_ERRORS:
        return [line]


def _cut(request: _Request) -> Iterator[bytes]:
    for resource in request.resource_spans:
        for scoped in resource.scope_spans:
            for span in scoped.spans:
                yield b'{"resourceSpans":[{"resource":%b,"scopeSpans":[{"scope":%b,"spans":[%b]}]}]}' % (
                    bytes(resource.resource),
                    bytes(scoped.scope),
                    bytes(span),
                )


def read_json(piece: Piece) -> Span:
    """The span of a piece of `split_traces`. Raises Rejectable."""
    request = decode_piece(piece, _decode_request, "an ExportTraceServiceRequest")
    resources = request.resource_spans
    if (
        len(resources) != 1
        or len(resources[0].scope_spans) != 1
        or len(resources[0].scope_spans[0].spans) != 1
    ):
        raise invalid("resourceSpans", "expected one resource with one scope with one span")
    (resource,) = resources
    span = decode_piece(resource.scope_spans[0].spans[0], _decode_span, "a span")
    told = Raw(b"{}") if bytes(resource.resource) == b"null" else resource.resource
    trace_id, span_id = span.trace_id.lower(), span.span_id.lower()
    parent_id = (span.parent_span_id or "").lower()
    check_ids(trace_id, span_id, parent_id)
    status = span.status or _Status()
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=parent_id,
        flags=span.flags,
        start_ns=_nanoseconds(span.start_time_unix_nano, "startTimeUnixNano"),
        end_ns=_nanoseconds(span.end_time_unix_nano, "endTimeUnixNano"),
        attributes=_from_json(span.attributes),
        events=tuple(
            SpanEvent(
                one.name, _nanoseconds(one.time_unix_nano, "events.timeUnixNano"), _from_json(one.attributes)
            )
            for one in span.events
        ),
        failed=status.code in _FAILED,
        status_message=status.message,
        service=service_of(_from_json(decode_piece(told, _decode_resource, "a resource").attributes)),
    )


def _from_json(attributes: Iterable[_KeyValue]) -> Attributes:
    return {one.key: _value(one.value, one.key, 0) for one in attributes}


def _value(value: Any, key: str, depth: int) -> Any:
    """A value as OTLP's JSON writes it: `{"intValue": "7"}` → 7. Raises Rejectable."""
    if value is None or value == {}:
        return None
    if not isinstance(value, dict) or len(value) != 1 or depth > _DEEPEST:
        raise _no_value(key)
    ((kind, inner),) = value.items()
    if kind == "arrayValue":
        return [_value(one, key, depth + 1) for one in _values(inner, key)]
    if kind == "kvlistValue":
        return {
            one["key"]: _value(one.get("value"), key, depth + 1)
            for one in _values(inner, key)
            if isinstance(one, dict) and isinstance(one.get("key"), str)
        }
    found = _scalar(kind, inner)
    if found is None:
        raise _no_value(key)
    return found


def _values(inner: Any, key: str) -> list[Any]:
    values = inner.get("values", []) if isinstance(inner, dict) else None
    if not isinstance(values, list):
        raise _no_value(key)
    return values


def _scalar(kind: str, inner: Any) -> str | bool | int | float | bytes | None:
    """The value, or None if `inner` is no value of this kind."""
    try:
        if kind == "stringValue" and isinstance(inner, str):
            return inner
        if kind == "boolValue" and isinstance(inner, bool):
            return inner
        if kind == "intValue" and isinstance(inner, int | str) and not isinstance(inner, bool):
            return number if (number := _integer(inner)) in _INT64 else None
        if kind == "doubleValue" and isinstance(inner, int | float | str) and not isinstance(inner, bool):
            return float(inner)
        if kind == "bytesValue" and isinstance(inner, str):
            return base64.b64decode(inner, validate=True)
    except (ValueError, OverflowError, binascii.Error):
        pass
    return None


def _integer(told: int | str) -> int:
    if isinstance(told, str) and len(told) > 20:
        raise ValueError("longer than any integer of 64 bits")
    return int(told)


def _nanoseconds(told: int | str, field: str) -> int:
    try:
        number = _integer(told)
    except ValueError:
        number = -1
    if number not in _UINT64:
        raise invalid(field, f"{field}: expected nanoseconds since 1970, got {str(told)[:40]!r}")
    return number


def _no_value(key: str) -> Rejectable:
    return invalid(
        f"attributes.{key[:100]}",
        f"attribute {key[:100]!r}: expected one of stringValue, boolValue, intValue, doubleValue, "
        "bytesValue, arrayValue, kvlistValue, with a value of that kind",
    )
