"""How the learner writes: a step's id is derived from its cause, so that a repeated step is one step.

A step that the state machine ignored (a person decided while it was worked out) has used up its id. If it is
due again on a later state, it is the next attempt. The attempt therefore follows from the state that the step
was decided on: two learners with the same state write the same id, and the log takes it once.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable

from msgspec import Struct

from learners.ports import LifecycleLog
from schemas.codec import seal_event
from schemas.ids import step_id
from schemas.lifecycle_state import Outcome
from schemas.registry import BY_PAYLOAD
from schemas.tenant_state import LifecycleState, Seen

log = logging.getLogger(__name__)

SOURCE = "ratchet/learner"


class Journal:
    """Appends the learner's steps to the lifecycle and reads each back."""

    def __init__(self, lifecycle: LifecycleLog, now: Callable[[], dt.datetime]) -> None:
        self.lifecycle = lifecycle
        self.now = now
        self._decided_on: dict[str, LifecycleState] = {}

    async def state(self, tenant: str) -> LifecycleState:
        """The tenant's state now; what is written until the next call is decided on it."""
        state = self._decided_on[tenant] = await self.lifecycle.state(tenant)
        return state

    async def write(self, tenant: str, payload: Struct, *, cause: str, attempt: int = 1) -> Outcome:
        """Append a step of this type for this cause, the `attempt`th or the first after it whose id is free;
        how the state machine took it.

        An ignored step is logged and is no error: another learner was first, or a person decided meanwhile.
        Raises Retryable if it was not confirmed in time; writing it again is safe.
        """
        event_type = BY_PAYLOAD[type(payload)]
        decided_on = self._decided_on.get(tenant)
        used = Seen() if decided_on is None else decided_on.seen
        while (SOURCE, step_id(cause, event_type.name, attempt)) in used:
            attempt += 1
        event = seal_event(
            payload,
            id=step_id(cause, event_type.name, attempt),
            source=SOURCE,
            tenant=tenant,
            recordedtime=self.now(),
            door="learner",
            causationid=cause,
            attempt=attempt,
        )
        outcome = await self.lifecycle.append(event)
        log.info(
            "%s %s%s",
            event_type.short,
            "accepted" if outcome.accepted else f"ignored: {outcome.reason}",
            f" ({reason})" if (reason := getattr(payload, "reason", "")) else "",
            extra={"tenant": tenant, "event_id": event.id, "causation_id": cause},
        )
        return outcome
