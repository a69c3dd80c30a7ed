"""What a door needs from outside: the log, and who a key belongs to."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from schemas.envelope import Event

Scope = Literal["send", "read", "administer"]


class Appended(Struct, frozen=True):
    """What became of one event: `confirmed` means durable (all in-sync replicas have it).

    Not confirmed means *not known*: it may be in the log or come to be; sending it again with the same id
    is safe. `detail` says why it is not known.
    """

    confirmed: bool
    detail: str = ""


#: The answer for every confirmed event.
CONFIRMED = Appended(True)


class EventLog(Protocol):
    """The append side of the log.

    Guarantees: an event goes to the topic of its type, under the key `record_key(tenant, subject)`, with
    `encode_event` as its value. Safe to call from many tasks of one event loop.
    """

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        """One result per event, in order, within the log's own deadline.

        Never raises because some events are unconfirmed. Raises Retryable if nothing was tried (too many
        bytes in flight), Fatal if this log will never confirm anything again.
        """
        ...


class InboxRecord(Struct, frozen=True, kw_only=True):
    """A record that an application wrote to its inbox."""

    tenant: str
    topic: str
    partition: int
    offset: int
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    #: When the broker appended it; None where the topic's times are the senders' own.
    appended: dt.datetime | None = None


class Inbox(Protocol):
    """What applications wrote to Kafka themselves, shared out among the members of one group.

    Guarantee: a record that was fetched and not committed is fetched again, by this member or another one,
    after whoever had it was killed or lost its partition. For one caller at a time.
    """

    async def fetch(self, timeout_s: float) -> Sequence[InboxRecord]:
        """The next records, of each partition in order; none if none came in time. Raises Retryable."""
        ...

    async def commit(self, records: Sequence[InboxRecord]) -> None:
        """Note that these are taken care of. One that is not noted comes again. Raises Retryable."""
        ...


class Limits(Struct, frozen=True):
    """What a key may send, a second, in one process: 0 for no limit, None for that of the settings."""

    max_requests_per_s: float | None = None
    max_events_per_s: float | None = None


class Grant(Struct, frozen=True):
    """What a key allows: one tenant, some scopes.

    `key_id` is '' for a key of the settings; `limits` is None where those of the settings hold for both.
    """

    tenant: str
    scopes: frozenset[Scope]
    key_id: str = ""
    limits: Limits | None = None


class KeyRing(Protocol):
    """API keys, known by hash only."""

    @property
    def complete(self) -> bool:
        """Every key that is in force is known; until then a key that is not known may yet be."""
        ...

    def grant_of(self, key: str) -> Grant | None:
        """The grant of this key, or None if it is unknown or revoked. No I/O."""
        ...
