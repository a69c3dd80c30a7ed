"""Event ⇄ bytes, and the content hash.

Readers of the log are tolerant: a field that this code does not know is skipped, a missing field takes
its default. Doors are strict (`ingest`). So old bytes are read by new code and new bytes by old code.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Final

import msgspec
from msgspec import Struct

from schemas.envelope import Event
from schemas.errors import Reason, Rejectable
from schemas.registry import BY_NAME, BY_PAYLOAD

_DECODE_EVENT: Final = msgspec.json.Decoder(Event)
_ENCODER: Final = msgspec.json.Encoder()
#: Keys sorted, no spaces: equal values give equal bytes.
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_PAYLOAD_DECODERS: Final = {name: msgspec.json.Decoder(t.payload) for name, t in BY_NAME.items()}
#: What a decoder raises on bytes that are no value of its type; the last, on brackets nested too deep.
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys and no spaces; equal values give equal bytes."""
    return _CANONICAL.encode(value)


def content_hash(event_type: str, time: dt.datetime | None, data: bytes) -> str:
    """SHA-256 (hex) of type, event time (UTC, or nothing) and canonical `data`.

    No offset, received time or door is in it, so that a log can be copied without someone (L11).
    """
    moment = b"" if time is None else time.astimezone(dt.UTC).isoformat(timespec="microseconds").encode()
    return hashlib.sha256(b"\x1f".join((event_type.encode(), moment, data))).hexdigest()


def seal_event(
    payload: Struct,
    *,
    id: str,
    source: str,
    tenant: str,
    recordedtime: dt.datetime,
    time: dt.datetime | None = None,
    door: str = "http",
    timetrusted: bool = False,
    causationid: str | None = None,
    attempt: int = 1,
) -> Event:
    """The event of this payload: canonical data, content hash and subject filled in. Times become UTC."""
    event_type = BY_PAYLOAD[type(payload)]
    data = canonical_json(payload)
    time = None if time is None else time.astimezone(dt.UTC)
    return Event(
        specversion="1.0",
        id=id,
        source=source,
        type=event_type.name,
        tenant=tenant,
        subject=None if event_type.subject is None else getattr(payload, event_type.subject),
        time=time,
        recordedtime=recordedtime.astimezone(dt.UTC),
        contenthash=content_hash(event_type.name, time, data),
        door=door,
        timetrusted=timetrusted,
        causationid=causationid,
        attempt=attempt,
        data=msgspec.Raw(data),
    )


def encode_event(event: Event) -> bytes:
    """The record's value on a topic."""
    return _ENCODER.encode(event)


def decode_event(value: bytes) -> Event:
    """The event of a record's value. Raises Rejectable(undecodable): this code cannot read the record."""
    try:
        return _DECODE_EVENT.decode(value)
    except _UNREADABLE as error:
        raise Rejectable(
            Reason.UNDECODABLE,
            f"expected a CloudEvents record of ours, but {error}; keep the bytes and look at them",
        ) from error


def decode_payload(event: Event) -> Struct:
    """The typed payload of an event. Raises Rejectable: unknown type, or data that does not fit it."""
    decoder = _PAYLOAD_DECODERS.get(event.type)
    if decoder is None:
        raise Rejectable(
            Reason.UNKNOWN_TYPE, f"no event type {event.type!r} in this version of the code", field="type"
        )
    try:
        return decoder.decode(event.data)
    except _UNREADABLE as error:
        raise Rejectable(Reason.UNDECODABLE, f"data of {event.type}: {error}", field="data") from error
