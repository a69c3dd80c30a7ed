"""What can go wrong, by what the caller can do.

ClientError
├── Refused         events that can never pass as they are; mend them
├── OutboxFull      an outbox has no room; `events` were not recorded: record them later, or send less
├── RequestFailed   the request itself is wrong: key, path, size; look at `status` and `detail`
└── Unavailable     not confirmed in time; send `events` again later: they have their ids
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class ClientError(Exception):
    """Root of what this client raises on purpose.

    `events`: those of the call that are not confirmed, with their ids; `send(error.events)` goes on there.
    """

    events: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Refusal:
    """Why one event was rejected. `reason` is a code to match on, `field` the dotted path in the event."""

    id: str
    source: str
    reason: str
    field: str
    message: str


class Refused(ClientError):
    """Some events were rejected; the others of the call are stored. `accepted` counts those."""

    def __init__(self, refusals: Sequence[Refusal], accepted: int) -> None:
        first = refusals[0]
        more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
        super().__init__(f"{first.reason} in event {first.id!r}: {first.message}{more}")
        self.refusals = tuple(refusals)
        self.accepted = accepted


class RequestFailed(ClientError):
    """The server does not take a request. Of a call that needs several, other requests may be stored.

    `events` are those of the requests that were not taken.
    """

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"HTTP {status}: {detail}")
        self.status = status
        self.detail = detail


class Unavailable(ClientError):
    """No confirmation after every attempt. Of `events`, those that were sent may be stored.

    Sent again with the same ids they count once. Requests of the same call before these were answered; what
    was rejected in them is not told here.
    """

    def __init__(self, detail: str, attempts: int) -> None:
        super().__init__(f"not confirmed after {attempts} attempts: {detail}")
        self.detail = detail
        self.attempts = attempts


class OutboxFull(ClientError):
    """An outbox holds as much as it may. `events` were not recorded; they have their ids."""


class SpillFull(ClientError):
    """The files of a spill folder would take more bytes than allowed."""
