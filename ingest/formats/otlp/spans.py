"""A span as both encodings of OTLP give it: plain values, and the bytes that are kept of a bad one."""

from __future__ import annotations

import datetime as dt
import re
from typing import Any, Final

from msgspec import Struct

from schemas.errors import Reason, Rejectable

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_TRACE_ID: Final = re.compile(r"\A[0-9a-f]{32}\Z")
_SPAN_ID: Final = re.compile(r"\A[0-9a-f]{16}\Z")
_REMOTE: Final = 0x300
#: Characters of a service's name in our `source`.
_SERVICE_CHARACTERS: Final = 200

#: Attribute → text, number, bool, bytes, None, or lists and dicts of these.
Attributes = dict[str, Any]


class SpanEvent(Struct, frozen=True):
    """Something that happened within a span. `time_ns`: since 1970, 0 if not told."""

    name: str
    time_ns: int
    attributes: Attributes


class Span(Struct, frozen=True):
    """One span. Ids: hex in lower case; `parent_id` is '' for a root. Times: ns since 1970, 0 if not told."""

    trace_id: str
    span_id: str
    parent_id: str
    #: Bits 8 and 9: it is known whether the parent is of another process; it is.
    flags: int
    start_ns: int
    end_ns: int
    attributes: Attributes
    events: tuple[SpanEvent, ...]
    failed: bool
    status_message: str
    service: str

    @property
    def is_root(self) -> bool:
        """Nothing is above it in its trace."""
        return not self.parent_id

    @property
    def is_entry(self) -> bool:
        """Nothing of its own process is above it, or of Langfuse's spans."""
        return (
            self.is_root
            or self.flags & _REMOTE == _REMOTE
            or self.attributes.get("langfuse.internal.is_app_root") is True
        )

    @property
    def latency_ms(self) -> float | None:
        """From start to end; None unless both are told, in this order."""
        if not 0 < self.start_ns <= self.end_ns:
            return None
        return (self.end_ns - self.start_ns) / 1e6

    @property
    def source(self) -> str:
        """CloudEvents source of what the span says."""
        name = "".join(c for c in self.service if c.isprintable())[:_SERVICE_CHARACTERS]
        return f"urn:ratchet:otlp:{name}" if name else "urn:ratchet:otlp"

    def text(self, *names: str) -> str:
        """The first of these attributes that is a text and not blank; '' if none is."""
        for name in names:
            value = self.attributes.get(name)
            if isinstance(value, str) and value.strip():
                return value
        return ""


def check_ids(trace_id: str, span_id: str, parent_id: str) -> None:
    """Raises Rejectable unless these are ids of OpenTelemetry: hex, not all zeros; a parent may be ''."""
    for field, value, form, digits in (
        ("traceId", trace_id, _TRACE_ID, 32),
        ("spanId", span_id, _SPAN_ID, 16),
        ("parentSpanId", parent_id, _SPAN_ID, 16),
    ):
        if field == "parentSpanId" and not value:
            continue
        if not form.match(value) or not value.strip("0"):
            raise Rejectable(
                Reason.INVALID_VALUE,
                f"{field}: expected {digits} hex digits that are not all 0, got {value[:60]!r}",
                field=field,
            )


def moment(time_ns: int, field: str) -> dt.datetime | None:
    """The time of ns since 1970, cut to microseconds; None for 0. Raises Rejectable: there is none."""
    if not time_ns:
        return None
    try:
        return _EPOCH + dt.timedelta(microseconds=time_ns // 1000)
    except OverflowError as error:
        raise Rejectable(
            Reason.TIME_OUT_OF_RANGE,
            f"{field}: expected nanoseconds since 1970, got {time_ns}",
            field=field,
        ) from error


def service_of(resource: Attributes) -> str:
    """The service that a resource says it is; '' if it has only the name that SDKs make up."""
    name = resource.get("service.name")
    return name if isinstance(name, str) and not name.startswith("unknown_service") else ""
