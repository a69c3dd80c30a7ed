"""What the learner does next: a pure decision from the tenant's state. The daemon only carries it out.

The state is folded from the log, so a learner that was killed goes on from the last event: it holds nothing
of its own that it could forget. Two learners decide alike, and the log lets the first step win.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from schemas.tenant_state import LifecycleState, Rollout, Training, VersionState


class Watch(Struct, frozen=True):
    """Look at the queries since the champion came."""

    champion: str


class RequestTraining(Struct, frozen=True):
    """Answer the drift that waits."""

    drift: str  #: id of the drift.detected event
    champion: str


class Freeze(Struct, frozen=True):
    """Make the dataset of the open training."""

    training: Training


class RunTrial(Struct, frozen=True):
    """Run the next trial of the study."""

    training: Training
    number: int


class Propose(Struct, frozen=True):
    """Make a version of the best trial."""

    training: Training
    trial: int
    #: id of the trial.finished event
    cause: str


class Abandon(Struct, frozen=True):
    """End a training that cannot give a version."""

    training: Training
    cause: str
    reason: str


class Judge(Struct, frozen=True):
    """Compare the proposed version with the champion, once."""

    version: VersionState


class Reject(Struct, frozen=True):
    """Close a version that the judge did not admit."""

    version: VersionState
    cause: str


class StartRollout(Struct, frozen=True):
    """Begin the canary of the admitted version."""

    version: VersionState
    cause: str


class LookAtRollout(Struct, frozen=True):
    """Apply the canary's rule to what the units did so far."""

    rollout: Rollout


class Wait(Struct, frozen=True):
    """Nothing to do; `why` says for what, and `command` is what a person may do, if anything."""

    why: str
    command: str = ""


Step = (
    Watch
    | RequestTraining
    | Freeze
    | RunTrial
    | Propose
    | Abandon
    | Judge
    | Reject
    | StartRollout
    | LookAtRollout
    | Wait
)


def next_step(state: LifecycleState, *, trials: int) -> Step:
    """The one step that is due. `trials`: how many trials a study has."""
    if state.champion is None:
        return Wait("no version serves yet: the search process proposes the base")
    if state.rollout is not None:
        return LookAtRollout(state.rollout)
    if state.training is not None:
        return _next_of_training(state, state.training, trials)
    for version in state.versions.values():
        # Its canary ended because the champion changed: its way goes on from the judge.
        if version.origin == "trained" and version.stage in ("proposed", "admitted"):
            return _next_of_version(state, version)
    if state.drift is not None:
        return RequestTraining(state.drift[0], state.champion)
    return Watch(state.champion)


def _next_of_training(state: LifecycleState, training: Training, trials: int) -> Step:
    stage: Literal["requested", "frozen", "proposed", "judged"] = training.stage
    if stage == "requested":
        return Freeze(training)
    if stage == "frozen":
        done = {trial.number for trial in training.trials}
        for number in range(trials):
            if number not in done:
                return RunTrial(training, number)
        complete = [t for t in training.trials if t.state == "complete" and t.value is not None]
        if not complete:
            return Abandon(training, training.trials[-1].event_id, f"none of {trials} trials gave a pipeline")
        # The earlier of equal trials: cheaper ones come first.
        best = max(complete, key=lambda t: (t.value if t.value is not None else 0.0, -t.number))
        return Propose(training, best.number, best.event_id)
    return _next_of_version(state, state.versions[training.version])


def _next_of_version(state: LifecycleState, version: VersionState) -> Step:
    if version.judged is None or version.judged.champion != state.champion:
        return Judge(version)
    if version.stage != "admitted":
        return Reject(version, version.judged_by)
    if state.mode == "propose":
        return Wait(
            f"version {version.version} was admitted by the judge and waits for a person",
            f"ratchet canary {version.version}",
        )
    if not version.ready:
        return Wait(f"version {version.version} is being prepared by whoever serves")
    return StartRollout(version, version.judged_by)
