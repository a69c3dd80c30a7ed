"""Steps of a training: drift, request, dataset, trials, and its end without a version."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas import lifecycle as lc
from schemas.envelope import Event
from schemas.tenant_state import LifecycleState, Training, TrainingStage, Trial
from schemas.transition import IllegalStep, Steps, change, require


def open_training(state: LifecycleState, event: Event, *stages: TrainingStage) -> Training:
    """The open training, if this event belongs to it and it stands at one of `stages`."""
    training = state.training
    if training is None:
        raise IllegalStep("no training is open")
    chain = {
        training.id,
        training.frozen_by,
        training.judged_by,
        *(trial.event_id for trial in training.trials),
    }
    if training.version:
        chain.add(state.versions[training.version].proposed_by)
    require(
        event.causationid in chain,
        f"its cause {event.causationid!r} is not of the open training {training.id}",
    )
    require(training.stage in stages, f"the open training stands at {training.stage!r}")
    return training


def _drift(state: LifecycleState, event: Event, p: lc.DriftDetected) -> LifecycleState:
    require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    require(state.training is None, "a training is open already")
    require(state.rollout is None, "a rollout is running")
    require(state.drift is None, "a drift waits for its training already")
    return change(state, drift=(event.id, p), last_drift=(event.id, p), last_drift_at=event.recordedtime)


def _request_training(state: LifecycleState, event: Event, p: lc.TrainingRequested) -> LifecycleState:
    require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    require(state.training is None, "a training is open already")
    require(state.rollout is None, "a rollout is running")
    if p.reason == "drift":
        require(
            state.drift is not None and state.drift[0] == event.causationid,
            "its cause is not the drift that waits",
        )
    training = Training(
        id=event.id, stage="requested", champion=p.champion, seed=p.seed, cause=event.causationid
    )
    return change(state, training=training, drift=None)


def _freeze(state: LifecycleState, event: Event, p: lc.DatasetFrozen) -> LifecycleState:
    training = open_training(state, event, "requested")
    changed = msgspec.structs.replace(training, stage="frozen", dataset_id=p.dataset_id, frozen_by=event.id)
    return change(state, training=changed)


def _finish_trial(state: LifecycleState, event: Event, p: lc.TrialFinished) -> LifecycleState:
    training = open_training(state, event, "frozen")
    require(p.dataset_id == training.dataset_id, f"the open training is on dataset {training.dataset_id}")
    require(all(t.number != p.number for t in training.trials), f"trial {p.number} finished already")
    trial = Trial(number=p.number, state=p.state, parameters=p.parameters, value=p.value, event_id=event.id)
    return change(state, training=msgspec.structs.replace(training, trials=(*training.trials, trial)))


def _abandon_training(state: LifecycleState, event: Event, p: lc.TrainingAbandoned) -> LifecycleState:
    open_training(state, event, "requested", "frozen")
    return change(state, training=None)


TRAINING_STEPS: Final[Steps] = {
    lc.DriftDetected: _drift,
    lc.TrainingRequested: _request_training,
    lc.DatasetFrozen: _freeze,
    lc.TrialFinished: _finish_trial,
    lc.TrainingAbandoned: _abandon_training,
}
