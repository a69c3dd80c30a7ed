"""What the HTTP application needs from outside, beside the ports of `ingest`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from schemas.rejections import EntryAnswer, EntryCount, EntryFilter, RejectedEntry
from schemas.tenant_state import LifecycleState

#: By what entries are counted.
Side = Literal["reason", "source", "door", "type", "day"]


class ServingSource(Protocol):
    """The lifecycle of every tenant, in memory: answering never waits."""

    @property
    def caught_up(self) -> bool:
        """Everything that was in the log at start has been read, and reading goes on."""
        ...

    def current(self, tenant: str) -> LifecycleState:
        """The tenant's state as far as it was read; the empty state for a tenant without a lifecycle."""
        ...


class RejectedEntries(Protocol):
    """What stands in `rejected`, as the store shows it: a moment behind the log.

    Every method raises Retryable if the store does not answer.
    """

    async def entries(self, tenant: str, chosen: EntryFilter, limit: int) -> list[RejectedEntry]:
        """The entries that came last, at most `limit`, the latest first."""
        ...

    async def named(self, tenant: str, ids: Sequence[str]) -> list[RejectedEntry]:
        """The entries whose id begins with one of these; 8 characters are the fewest."""
        ...

    async def answers(self, tenant: str, ids: Sequence[str]) -> list[EntryAnswer]:
        """What was decided on entries whose id begins with one of these, in order."""
        ...

    async def lengths(self, tenant: str, chosen: EntryFilter, limit: int) -> list[tuple[str, int]]:
        """(id, kept bytes) of the oldest entries that pass, at most `limit`."""
        ...

    async def originals(self, tenant: str, ids: Sequence[str]) -> dict[str, bytes]:
        """What is kept of these entries, by whole id."""
        ...

    async def counts(self, tenant: str, chosen: EntryFilter, side: Side, limit: int) -> list[EntryCount]:
        """Entries by one of their sides, the most frequent first; days in their order."""
        ...

    async def stored(
        self, tenant: str, names: Sequence[tuple[str, str, str]]
    ) -> dict[tuple[str, str, str], tuple[str, bytes]]:
        """(query, source, id) → content hash and data of the event that has this identity."""
        ...
