"""What a door needs from outside: the log, and who a key belongs to."""

from __future__ import annotations

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


class Grant(Struct, frozen=True):
    """What a key allows: one tenant, some scopes."""

    tenant: str
    scopes: frozenset[Scope]


class KeyRing(Protocol):
    """API keys, known by hash only."""

    def grant_of(self, key: str) -> Grant | None:
        """The grant of this key, or None if it is unknown or revoked. No I/O."""
        ...
