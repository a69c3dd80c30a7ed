"""Admission: the one way by which an input becomes an event. Every door ends here.

Strict where readers are tolerant: a field that the type does not have, a missing one, a wrong type and a
value out of range are refused, each with a reason code, the dotted field and what to do. The tenant comes
from the key. CloudEvents extension attributes are legal and not kept.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ingest.refusals import DECODER_ERRORS, refuse_data, refuse_envelope, refuse_json, shorten, suggest
from ingest.rules import rule_of
from ingest.settings import IngestSettings
from ingest.strict import MAX_NAME_CHARACTERS, strict_twin
from ingest.strict_json import MAX_NESTING, nested_deeper, refuse_nesting, refuse_number
from schemas.codec import seal_event
from schemas.envelope import Event, Instant
from schemas.errors import Reason, Rejectable
from schemas.registry import APPLICATION_TYPES, BY_NAME, EventType

EARLIEST: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
#: First moment that is too late (the store's 32-bit seconds end early in 2106).
TOO_LATE: Final = dt.datetime(2106, 1, 1, tzinfo=dt.UTC)

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
_CONTROLS: Final = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))


class _CloudEvent(Struct, frozen=True, gc=False):
    """The envelope as an application sends it; attributes that are not here are extensions."""

    specversion: str
    id: _Name
    source: _Name
    type: str
    data: Raw | UnsetType = UNSET
    data_base64: Raw | UnsetType = UNSET
    time: Instant | None = None
    datacontenttype: str | None = None
    tenant: Raw | UnsetType = UNSET


class _PlainEvent(_CloudEvent, frozen=True, gc=False, forbid_unknown_fields=True):
    """An envelope without extensions but common ones: nothing in it can nest, `data` has closed types."""

    subject: str | None = None
    dataschema: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    partitionkey: str | None = None


class Rejection(Struct, frozen=True, kw_only=True):
    """An input that did not become an event. `source`, `id`, `type` are '' where they could not be read."""

    reason: Reason
    field: str
    message: str
    source: str = ""
    id: str = ""
    type: str = ""


class _Way(Struct, frozen=True):
    """How one type is admitted."""

    event_type: EventType
    twin: type[Struct]
    check: Callable[[Raw], Any]
    decode: Callable[[Raw], Struct]
    rule: Callable[[Any], None] | None


def _way(event_type: EventType) -> _Way:
    twin = strict_twin(event_type.payload)
    return _Way(
        event_type,
        twin,
        msgspec.json.Decoder(twin).decode,
        msgspec.json.Decoder(event_type.payload).decode,
        rule_of(event_type.payload),
    )


_decode_plain: Final = msgspec.json.Decoder(_PlainEvent).decode
_decode_envelope: Final = msgspec.json.Decoder(_CloudEvent).decode
_decode_loosely: Final = msgspec.json.Decoder().decode


class Admission:
    """Raw CloudEvents → events, under fixed limits, for a fixed set of types. Stateless; safe to share."""

    def __init__(self, settings: IngestSettings, types: Iterable[EventType] = APPLICATION_TYPES) -> None:
        self._settings = settings
        self._ways = {event_type.name: _way(event_type) for event_type in types}
        # In fewer bytes than this, no text can be too long.
        self._surely_short = min(settings.max_string_bytes, settings.max_event_bytes)

    def admit(
        self, raw: bytes | Raw, *, tenant: str, door: str, received: dt.datetime, timetrusted: bool = False
    ) -> Event | Rejection:
        """The event of one CloudEvent in JSON, or why there is none. Never raises for any bytes.

        `received` is stamped on the event; `timetrusted` says that this door's event times may be
        believed however old they are.
        """
        try:
            envelope = self._decode(raw, tenant)
            return self._seal(envelope, tenant, door, received, timetrusted)
        except Rejectable as refused:
            source, id_, type_ = readable_names(raw, self._settings.max_event_bytes)
            return Rejection(
                reason=refused.reason,
                field=refused.field,
                message=shorten(refused.message),
                source=source,
                id=id_,
                type=type_,
            )

    def _decode(self, raw: bytes | Raw, tenant: str) -> _CloudEvent:
        length = memoryview(raw).nbytes
        if length > self._settings.max_event_bytes:
            raise Rejectable(
                Reason.TOO_LARGE,
                f"expected an event of at most {self._settings.max_event_bytes} bytes, got {length}; "
                "send less text, or raise the limit of the door",
            )
        try:
            envelope: _CloudEvent = _decode_plain(raw)
        except DECODER_ERRORS:
            envelope = _decode_slowly(raw)
        if envelope.specversion != "1.0":
            raise _bad_attribute("specversion", "'1.0'", repr(envelope.specversion))
        if not (envelope.id.isprintable() and envelope.source.isprintable()):
            _refuse_controls("id", envelope.id)
            _refuse_controls("source", envelope.source)
        time = envelope.time
        if time is not None and not EARLIEST <= time < TOO_LATE:
            raise Rejectable(
                Reason.TIME_OUT_OF_RANGE,
                f"expected a time from 1970 to 2105, got {time.isoformat()}; mend it, or leave it out",
                field="time",
            )
        if envelope.datacontenttype is not None:
            _check_content_type(envelope.datacontenttype)
        if envelope.tenant is not UNSET and bytes(envelope.tenant) not in (
            b'"%b"' % tenant.encode(),
            b"null",
        ):
            raise _bad_attribute(
                "tenant", "no such attribute: the tenant comes from the key", "another tenant than the key's"
            )
        if length > self._surely_short:
            # The envelope's decoder skipped `data`: bytes that are no UTF-8 and depth show only here.
            try:
                _check_strings(_decode_loosely(raw), self._settings.max_string_bytes, "")
            except DECODER_ERRORS as error:
                raise refuse_json(error, field="") from error
        return envelope

    def _seal(
        self, envelope: _CloudEvent, tenant: str, door: str, received: dt.datetime, timetrusted: bool
    ) -> Event:
        way = self._ways.get(envelope.type)
        if way is None:
            raise _unknown_type(envelope.type, self._ways)
        data = envelope.data
        if data is UNSET:
            if envelope.data_base64 is not UNSET:
                raise Rejectable(
                    Reason.INVALID_ENVELOPE,
                    "expected `data` as a JSON object, got `data_base64`; send the object itself",
                    field="data_base64",
                )
            raise Rejectable(Reason.MISSING_FIELD, "expected `data` as a JSON object, got none", field="data")
        try:
            way.check(data)
        except DECODER_ERRORS as error:
            raise refuse_data(error, envelope.type, way.twin) from error
        payload = way.decode(data)
        if way.rule is not None:
            way.rule(payload)
        event = seal_event(
            payload,
            id=envelope.id,
            source=envelope.source,
            tenant=tenant,
            recordedtime=received,
            time=envelope.time,
            door=door,
            timetrusted=timetrusted,
        )
        subject = event.subject
        if subject is not None and not subject.isprintable():
            _refuse_controls(f"data.{way.event_type.subject}", subject)
        return event


def _decode_slowly(raw: bytes | Raw) -> _CloudEvent:
    """The envelope of an event with extensions, or the reason why there is none. Raises Rejectable."""
    if nested_deeper(raw, MAX_NESTING):
        raise refuse_nesting()
    try:
        return _decode_envelope(raw)
    except msgspec.ValidationError as error:
        raise refuse_envelope(error) from error
    except DECODER_ERRORS as error:
        raise refuse_number(raw) or refuse_envelope(error) from error


def _unknown_type(name: str, ways: Iterable[str]) -> Rejectable:
    if name in BY_NAME:
        message = f"{name!r} is an event of the platform itself; an application cannot send it"
    else:
        message = f"no event type {name[:100]!r}{suggest(name, ways)}; GET /v1/schemas lists them"
    return Rejectable(Reason.UNKNOWN_TYPE, message, field="type")


def _bad_attribute(field: str, expected: str, came: str) -> Rejectable:
    return Rejectable(Reason.INVALID_ENVELOPE, f"{field}: expected {expected}, got {came}", field=field)


def _refuse_controls(field: str, text: str) -> None:
    """Raises Rejectable if the text holds a control character (CloudEvents 1.0 §3.1 forbids them)."""
    if not _CONTROLS.isdisjoint(text):
        raise Rejectable(
            Reason.INVALID_VALUE if field.startswith("data") else Reason.INVALID_ENVELOPE,
            f"{field}: expected no control characters, got {text!r}",
            field=field,
        )


def _check_content_type(content_type: str) -> None:
    essence = content_type.partition(";")[0].strip().lower()
    if essence not in ("application/json", "text/json") and not essence.endswith("+json"):
        raise _bad_attribute("datacontenttype", "application/json, or nothing", repr(content_type[:100]))


def _check_strings(value: object, limit: int, path: str) -> None:
    """Raises Rejectable if a text below `value` is longer than `limit` bytes of UTF-8."""
    if isinstance(value, str):
        length = len(value.encode())
        if length > limit:
            raise Rejectable(
                Reason.TOO_LARGE, f"{path}: expected at most {limit} bytes of text, got {length}", field=path
            )
    elif isinstance(value, dict):
        for name, member in value.items():
            _check_strings(member, limit, f"{path}.{name[:100]}".removeprefix("."))
    elif isinstance(value, list):
        for index, member in enumerate(value):
            _check_strings(member, limit, f"{path}.{index}")


class _Names(Struct):
    source: object = ""
    id: object = ""
    type: object = ""


def readable_names(raw: bytes | Raw, limit: int) -> tuple[str, str, str]:
    """Source, id and type, each as far as it can be read; '' where not."""
    if memoryview(raw).nbytes > 4 * limit:
        return "", "", ""
    try:
        names = msgspec.json.decode(raw, type=_Names)
    except DECODER_ERRORS:
        return "", "", ""
    source, id_, type_ = (
        value[:MAX_NAME_CHARACTERS] if isinstance(value, str) else ""
        for value in (names.source, names.id, names.type)
    )
    return source, id_, type_
