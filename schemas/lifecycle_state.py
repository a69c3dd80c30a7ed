"""The state machine of `lifecycle`: one pure fold that every reader of the topic applies.

    training   (drift.detected) → training.requested → dataset.frozen → trial.finished …
               → version.proposed → version.judged → rollout.started | version.rejected
               training.abandoned ends it at any step before a version is proposed
    version    proposed → admitted → canary → champion → retired
               proposed | admitted | canary → rejected;  canary | champion → rolled_back

A step that is illegal in the present state changes nothing and says why; it is kept and shown as ignored.
Two learners that both act therefore do no harm: the first step in the log wins, the other is ignored.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.experiment_steps import CONFIGURATION_STEPS, EXPERIMENT_STEPS
from schemas.tenant_state import LifecycleState
from schemas.training_steps import TRAINING_STEPS
from schemas.transition import IllegalStep, Steps, change
from schemas.version_steps import VERSION_STEPS

_STEPS: Final[Steps] = {**TRAINING_STEPS, **VERSION_STEPS, **EXPERIMENT_STEPS, **CONFIGURATION_STEPS}


class Outcome(Struct, frozen=True):
    """Whether a step was accepted; `reason` says why not."""

    accepted: bool
    reason: str = ""


ACCEPTED: Final = Outcome(True)


def apply(state: LifecycleState, event: Event) -> tuple[LifecycleState, Outcome]:
    """The state after this event, and whether the event counted. Pure: the event's own times only.

    Raises Rejectable if the payload cannot be read.
    """
    return apply_step(state, event, decode_payload(event))


def apply_step(state: LifecycleState, event: Event, payload: Struct) -> tuple[LifecycleState, Outcome]:
    """`apply` with the payload already decoded."""
    key = (event.source, event.id)
    if key in state.seen:
        return state, Outcome(False, "repeated: this event is already in the log")
    state = change(state, seen=state.seen.and_one(key))
    step = _STEPS.get(type(payload))
    if step is None:
        return state, Outcome(False, f"{event.type} is no lifecycle event")
    try:
        return step(state, event, payload), ACCEPTED
    except IllegalStep as illegal:
        return state, Outcome(False, str(illegal))
