"""What the HTTP application needs from outside, beside the ports of `ingest`."""

from __future__ import annotations

from typing import Protocol

from schemas.tenant_state import LifecycleState


class ServingSource(Protocol):
    """The lifecycle of every tenant, in memory: answering never waits."""

    @property
    def caught_up(self) -> bool:
        """Everything that was in the log at start has been read, and reading goes on."""
        ...

    def current(self, tenant: str) -> LifecycleState:
        """The tenant's state as far as it was read; the empty state for a tenant without a lifecycle."""
        ...
