"""A record that cannot be decoded, folded or stored → its entry for topic `rejected`. Pure.

The same record gives the same bytes again: a re-delivered batch adds no second entry.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import decode_event, decode_payload, seal_event
from schemas.envelope import Event
from schemas.errors import Reason, Rejectable
from schemas.ids import derive_id
from schemas.registry import BY_NAME
from schemas.rejections import EventRejected, rejection_entry_id
from schemas.topics import TENANT_PATTERN
from streams.ports import Message
from streams.records import Arrival, Record

SOURCE: Final = "ratchet/streams"
#: Owns what names no tenant: no record that Ratchet writes ends here.
NOBODY: Final = "unknown"
#: A record is kept whole: none is larger (`max.message.bytes` of its topic), but one of `rejected` itself.
KEPT_BYTES: Final = 1024 * 1024
#: What is kept of a larger one.
BEGINNING_BYTES: Final = 64 * 1024

#: The store's times reach from 1900 to 2299; a clock outside 1970–2105 is no clock.
_EARLIEST: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_LATEST: Final = dt.datetime(2106, 1, 1, tzinfo=dt.UTC)
_END_MS: Final = (_LATEST - _EARLIEST) // dt.timedelta(milliseconds=1)


def read_message(message: Message) -> tuple[Arrival, Record]:
    """The typed record of a message. Raises Rejectable: it is not one that this topic may hold."""
    event = decode_event(message.value)
    record = Record(event, decode_payload(event))
    event_type = BY_NAME[event.type]
    if event_type.topic != message.topic:
        raise Rejectable(
            Reason.UNKNOWN_TYPE, f"{event.type} belongs on {event_type.topic}, not here", field="type"
        )
    subject = None if event_type.subject is None else getattr(record.payload, event_type.subject)
    if event.subject != subject:
        raise Rejectable(
            Reason.INVALID_ENVELOPE,
            f"expected subject {subject!r}, as the data says, got {event.subject!r}",
            field="subject",
        )
    if not TENANT_PATTERN.match(event.tenant):
        raise Rejectable(Reason.INVALID_ENVELOPE, f"no tenant: {event.tenant!r}", field="tenant")
    for name, moment in (("recordedtime", event.recordedtime), ("time", event.time)):
        if moment is not None and not _EARLIEST <= moment < _LATEST:
            raise Rejectable(
                Reason.TIME_OUT_OF_RANGE, f"expected a time from 1970 to 2105, got {moment}", field=name
            )
    return Arrival(event, message.value, message.topic, message.partition, message.offset), record


def read_messages(
    messages: Iterable[Message],
) -> tuple[list[tuple[Arrival, Record]], list[Event]]:
    """What could be read of these messages, in order, and an entry for each that could not."""
    read: list[tuple[Arrival, Record]] = []
    rejected: list[Event] = []
    for message in messages:
        try:
            read.append(read_message(message))
        except Rejectable as error:
            rejected.append(reject_message(message, error))
    return read, rejected


def reject_message(message: Message, why: Rejectable) -> Event:
    """The entry for a message that cannot be read: its tenant from the key, its time from Kafka."""
    tenant = message.key.split(b"/", 1)[0].decode("utf-8", "replace")
    if not TENANT_PATTERN.match(tenant):
        tenant = NOBODY
    return _entry(tenant, message.value, why, _moment(message.timestamp_ms), _names_in(message.value))


def _moment(timestamp_ms: int) -> dt.datetime:
    """When Kafka got a message; 1970 where it does not say, or says what no reader of entries takes."""
    if not 0 <= timestamp_ms < _END_MS:
        return _EARLIEST
    return _EARLIEST + dt.timedelta(milliseconds=timestamp_ms)


def reject_arrival(arrival: Arrival, why: Rejectable) -> Event:
    """The entry for a readable record that cannot be folded or stored; dated by its received time."""
    event = arrival.event
    names = _Names(event.source, event.id, event.type)
    return _entry(event.tenant, arrival.value, why, event.recordedtime, names)


class _Names(Struct):
    """What a record says of itself; each part may be anything, or absent."""

    source: object = ""
    id: object = ""
    type: object = ""


_decode_names: Final = msgspec.json.Decoder(_Names).decode
_LONGEST_NAME: Final = 256


def _names_in(value: bytes) -> _Names:
    """The names of a record that this code cannot read, as far as they can be."""
    try:
        return _decode_names(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Names()


def _text(name: object) -> str:
    return name[:_LONGEST_NAME] if isinstance(name, str) else ""


def _entry(tenant: str, original: bytes, why: Rejectable, moment: dt.datetime, names: _Names) -> Event:
    entry_id = rejection_entry_id(tenant, original)
    whole = len(original) <= KEPT_BYTES
    payload = EventRejected(
        entry_id=entry_id,
        reason=why.reason.value,
        message=why.message,
        field=why.field,
        original=original if whole else original[:BEGINNING_BYTES],
        original_length=len(original),
        event_source=_text(names.source),
        event_id=_text(names.id),
        event_type=_text(names.type),
        replayable=whole,
    )
    return seal_event(
        payload,
        id=derive_id("rejected", entry_id, why.reason.value),
        source=SOURCE,
        tenant=tenant,
        recordedtime=moment,
        time=moment,
        door="streams",
    )
