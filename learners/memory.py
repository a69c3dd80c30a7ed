"""The learner's lifecycle in memory: the same port, the same state machine, no broker."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.codec import decode_event, encode_event
from schemas.envelope import Event
from schemas.lifecycle_state import Outcome, apply
from schemas.tenant_state import LifecycleState


class MemoryLifecycleLog:
    """`LifecycleLog` over a list of records. Events go through their bytes, as on the topic."""

    def __init__(self) -> None:
        self.records: list[bytes] = []
        self.outcomes: list[Outcome] = []
        self._states: dict[str, LifecycleState] = {}

    async def state(self, tenant: str) -> LifecycleState:
        """The state after every event appended so far."""
        return self._states.get(tenant, LifecycleState())

    async def append(self, event: Event) -> Outcome:
        """Append and fold."""
        self.records.append(encode_event(event))
        state, outcome = apply(await self.state(event.tenant), decode_event(self.records[-1]))
        self._states[event.tenant] = state
        self.outcomes.append(outcome)
        return outcome

    def tenants(self) -> Sequence[str]:
        """Tenants with a lifecycle."""
        return tuple(self._states)

    def events(self) -> list[Event]:
        """All events, in the order of the log."""
        return [decode_event(record) for record in self.records]
