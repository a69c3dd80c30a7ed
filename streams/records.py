"""Records, what a fold reads: (identity, content hash, received time); those of a query are a set (L3)."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from schemas.codec import decode_event, decode_payload, encode_event
from schemas.envelope import Event


class RecordKey(NamedTuple):
    """What makes two records one. The same columns key the storage of `events`.

    As a tuple it orders records by query, then by identity; within an identity the *smallest received
    time and content hash* has to be asked for (`streams.fold`), the order of this key is another.
    """

    tenant: str
    query_id: str
    source: str
    id: str
    content_hash: str
    received_time: dt.datetime


class Record(Struct, frozen=True):
    """An event and its typed payload."""

    event: Event
    payload: Struct

    @property
    def key(self) -> RecordKey:
        """Identity, content hash and received time."""
        event = self.event
        return RecordKey(
            event.tenant,
            event.subject or "",
            event.source,
            event.id,
            event.contenthash,
            event.recordedtime,
        )


class Arrival(NamedTuple):
    """An event as it was read: its bytes, and where they stood (a hint; in no hash)."""

    event: Event
    value: bytes
    topic: str
    partition: int
    offset: int


def read_record(event: Event) -> Record:
    """The record of an event. Raises Rejectable: unknown type, or data that does not fit it."""
    return Record(event, decode_payload(event))


def decode_record(value: bytes) -> Record:
    """The record of a value on the topic. Raises Rejectable: undecodable, or of an unknown type."""
    return read_record(decode_event(value))


def collect_records(
    records: Iterable[Record], into: dict[RecordKey, Record] | None = None
) -> dict[RecordKey, Record]:
    """The set of these records, joined to the set `into` (which is changed and returned, if given).

    Of two records with one key the one with the smaller bytes stays, so that what the key does not cover
    (the door, say) cannot depend on the order either.
    """
    found = {} if into is None else into
    for record in records:
        key = record.key
        other = found.setdefault(key, record)
        if (
            other is not record
            and other.event != record.event
            and encode_event(record.event) < encode_event(other.event)
        ):
            found[key] = record
    return found
