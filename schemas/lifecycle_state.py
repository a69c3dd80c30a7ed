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

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Struct

from schemas import lifecycle as lc
from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.tenant_state import (
    Experiment,
    LifecycleState,
    Rollout,
    Training,
    TrainingStage,
    Trial,
    VersionStage,
    VersionState,
)

_T = TypeVar("_T")


class Outcome(Struct, frozen=True):
    """Whether a step was accepted; `reason` says why not."""

    accepted: bool
    reason: str = ""


ACCEPTED: Final = Outcome(True)


class _Illegal(Exception):
    """The step is not legal now; the text says why."""


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise _Illegal(reason)


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
    state = _with(state, seen=state.seen | {key})
    step = _STEPS.get(type(payload))
    if step is None:
        return state, Outcome(False, f"{event.type} is no lifecycle event")
    try:
        return step(state, event, payload), ACCEPTED
    except _Illegal as illegal:
        return state, Outcome(False, str(illegal))


def _with(state: LifecycleState, **changes: object) -> LifecycleState:
    return msgspec.structs.replace(state, **changes)


def _set(mapping: Mapping[str, _T], key: str, value: _T) -> Mapping[str, _T]:
    return MappingProxyType({**mapping, key: value})


def _set_version(state: LifecycleState, version: str, **changes: object) -> Mapping[str, VersionState]:
    return _set(state.versions, version, msgspec.structs.replace(state.versions[version], **changes))


def _known(state: LifecycleState, version: str) -> VersionState:
    _require(version in state.versions, f"no version {version!r} was proposed")
    return state.versions[version]


def _open_training(state: LifecycleState, event: Event, *stages: TrainingStage) -> Training:
    """The open training, if this event belongs to it and it stands at one of `stages`."""
    training = state.training
    if training is None:
        raise _Illegal("no training is open")
    chain = {
        training.id,
        training.frozen_by,
        training.judged_by,
        *(trial.event_id for trial in training.trials),
    }
    if training.version:
        chain.add(state.versions[training.version].proposed_by)
    _require(
        event.causationid in chain,
        f"its cause {event.causationid!r} is not of the open training {training.id}",
    )
    _require(training.stage in stages, f"the open training stands at {training.stage!r}")
    return training


def _configure(state: LifecycleState, event: Event, p: lc.TenantConfigured) -> LifecycleState:
    return _with(state, mode=p.mode)


def _drift(state: LifecycleState, event: Event, p: lc.DriftDetected) -> LifecycleState:
    _require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    _require(state.training is None, "a training is open already")
    _require(state.rollout is None, "a rollout is running")
    _require(state.drift is None, "a drift waits for its training already")
    return _with(state, drift=(event.id, p), last_drift=(event.id, p), last_drift_at=event.recordedtime)


def _request_training(state: LifecycleState, event: Event, p: lc.TrainingRequested) -> LifecycleState:
    _require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    _require(state.training is None, "a training is open already")
    _require(state.rollout is None, "a rollout is running")
    if p.reason == "drift":
        _require(
            state.drift is not None and state.drift[0] == event.causationid,
            "its cause is not the drift that waits",
        )
    training = Training(
        id=event.id, stage="requested", champion=p.champion, seed=p.seed, cause=event.causationid
    )
    return _with(state, training=training, drift=None)


def _freeze(state: LifecycleState, event: Event, p: lc.DatasetFrozen) -> LifecycleState:
    training = _open_training(state, event, "requested")
    changed = msgspec.structs.replace(training, stage="frozen", dataset_id=p.dataset_id, frozen_by=event.id)
    return _with(state, training=changed)


def _finish_trial(state: LifecycleState, event: Event, p: lc.TrialFinished) -> LifecycleState:
    training = _open_training(state, event, "frozen")
    _require(p.dataset_id == training.dataset_id, f"the open training is on dataset {training.dataset_id}")
    _require(all(t.number != p.number for t in training.trials), f"trial {p.number} finished already")
    trial = Trial(number=p.number, state=p.state, parameters=p.parameters, value=p.value, event_id=event.id)
    return _with(state, training=msgspec.structs.replace(training, trials=(*training.trials, trial)))


def _abandon_training(state: LifecycleState, event: Event, p: lc.TrainingAbandoned) -> LifecycleState:
    _open_training(state, event, "requested", "frozen")
    return _with(state, training=None)


def _propose(state: LifecycleState, event: Event, p: lc.VersionProposed) -> LifecycleState:
    _require(p.version not in state.versions, f"version {p.version!r} was proposed already")
    version = VersionState(
        version=p.version,
        stage="proposed",
        manifest_hash=p.manifest_hash,
        origin=p.origin,
        parent=p.parent,
        dataset_id=p.dataset_id,
        proposed_by=event.id,
        validation=p.validation,
    )
    changes: dict[str, object] = {"versions": _set(state.versions, p.version, version)}
    if p.origin == "trained":
        training = _open_training(state, event, "frozen")
        changes["training"] = msgspec.structs.replace(training, stage="proposed", version=p.version)
    elif p.origin == "base":
        _require(state.base is None, f"the base is {state.base!r} already")
        changes["base"] = p.version
    return _with(state, **changes)


def _judge(state: LifecycleState, event: Event, p: lc.VersionJudged) -> LifecycleState:
    version = _known(state, p.version)
    _require(
        version.stage == "proposed",
        f"version {p.version!r} is {version.stage}: only proposed ones are judged",
    )
    _require(
        version.judged is None or version.judged.champion != p.champion,
        f"version {p.version!r} was judged against {p.champion!r} already: the judge is asked once",
    )
    _require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    changes: dict[str, object] = {}
    if state.training is not None and state.training.version == p.version:
        changes["training"] = msgspec.structs.replace(state.training, stage="judged", judged_by=event.id)
    stage: VersionStage = "admitted" if p.verdict == "admitted" else "proposed"
    changes["versions"] = _set_version(state, p.version, stage=stage, judged=p, judged_by=event.id)
    return _with(state, **changes)


def _ready(state: LifecycleState, event: Event, p: lc.VersionReady) -> LifecycleState:
    version = _known(state, p.version)
    _require(version.stage not in ("rejected", "rolled_back"), f"version {p.version!r} is {version.stage}")
    return _with(state, versions=_set_version(state, p.version, ready=True))


def _start_rollout(state: LifecycleState, event: Event, p: lc.RolloutStarted) -> LifecycleState:
    version = _known(state, p.challenger)
    _require(state.rollout is None, "a rollout is running already")
    _require(
        version.stage == "admitted",
        f"version {p.challenger!r} is {version.stage}: the judge must admit it first",
    )
    _require(version.ready, f"version {p.challenger!r} is not ready to serve")
    _require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    return _with(
        state,
        rollout=Rollout(id=event.id, started=p, share=p.share),
        versions=_set_version(state, p.challenger, stage="canary"),
        training=_unless_about(state.training, p.challenger),
    )


def _advance_rollout(state: LifecycleState, event: Event, p: lc.RolloutAdvanced) -> LifecycleState:
    rollout = state.rollout
    if rollout is None or rollout.started.rollout != p.rollout:
        raise _Illegal(f"rollout {p.rollout!r} is not running")
    share = rollout.share if p.share is None else p.share
    _require(share >= rollout.share, f"a canary grows or ends: its share is {rollout.share}")
    return _with(state, rollout=msgspec.structs.replace(rollout, share=share))


def _promote(state: LifecycleState, event: Event, p: lc.VersionPromoted) -> LifecycleState:
    version = _known(state, p.version)
    _require(p.version != state.champion, f"version {p.version!r} is the champion already")
    if p.by == "first":
        _require(state.champion is None, f"the champion is {state.champion!r} already")
    elif p.by == "canary":
        _require(
            state.rollout is not None and state.rollout.started.challenger == p.version,
            f"version {p.version!r} has no running rollout to win",
        )
    else:
        _require(bool(p.reason.strip()), "a person who promotes gives a reason")
        _require(version.ready, f"version {p.version!r} is not ready to serve")
    versions = _set_version(state, p.version, stage="champion", served=True)
    if state.champion is not None:
        retired = msgspec.structs.replace(versions[state.champion], stage="retired")
        versions = _set(versions, state.champion, retired)
    rollout = state.rollout
    if rollout is not None and rollout.started.challenger != p.version:
        # A canary against a champion that is no longer it proves nothing: its challenger waits again.
        challenger = msgspec.structs.replace(versions[rollout.started.challenger], stage="proposed")
        versions = _set(versions, challenger.version, challenger)
    return _with(
        state,
        champion=p.version,
        champion_since=event.recordedtime,
        champion_by=event.id,
        versions=versions,
        rollout=None,
        drift=None,
        last_drift=None,
        last_drift_at=None,
        training=_unless_about(state.training, p.version),
    )


def _reject(state: LifecycleState, event: Event, p: lc.VersionRejected) -> LifecycleState:
    version = _known(state, p.version)
    _require(
        version.stage in ("proposed", "admitted", "canary"),
        f"version {p.version!r} is {version.stage} and stays so",
    )
    rollout = state.rollout
    ended = rollout is not None and rollout.started.challenger == p.version
    return _with(
        state,
        versions=_set_version(state, p.version, stage="rejected"),
        rollout=None if ended else rollout,
        training=_unless_about(state.training, p.version),
    )


def _roll_back(state: LifecycleState, event: Event, p: lc.VersionRolledBack) -> LifecycleState:
    version, target = _known(state, p.version), _known(state, p.to)
    rollout = state.rollout
    if version.stage == "canary":
        _require(p.to == state.champion, f"a canary falls back on the champion {state.champion!r}")
        return _with(state, versions=_set_version(state, p.version, stage="rolled_back"), rollout=None)
    _require(
        p.version == state.champion,
        f"version {p.version!r} serves nobody: the champion is {state.champion!r}",
    )
    _require(target.served or p.to == state.base, f"version {p.to!r} never served; promote it instead")
    _require(p.to != p.version, "a version cannot fall back on itself")
    versions = _set_version(state, p.version, stage="rolled_back")
    versions = _set(versions, p.to, msgspec.structs.replace(versions[p.to], stage="champion", served=True))
    if rollout is not None:
        challenger = msgspec.structs.replace(versions[rollout.started.challenger], stage="proposed")
        versions = _set(versions, challenger.version, challenger)
    return _with(
        state,
        champion=p.to,
        champion_since=event.recordedtime,
        champion_by=event.id,
        versions=versions,
        rollout=None,
        drift=None,
        last_drift=None,
        last_drift_at=None,
    )


def _unless_about(training: Training | None, version: str) -> Training | None:
    return None if training is not None and training.version == version else training


def _define_experiment(state: LifecycleState, event: Event, p: lc.ExperimentDefined) -> LifecycleState:
    _require(
        p.experiment not in state.experiments,
        f"experiment {p.experiment!r} is defined already; take a new name",
    )
    _require(abs(sum(arm.weight for arm in p.arms) - 1) < 1e-6, "the weights of the arms must sum to 1")
    _require(len({arm.name for arm in p.arms}) == len(p.arms), "the arms' names must differ")
    return _with(state, experiments=_set(state.experiments, p.experiment, Experiment(defined=p)))


def _start_experiment(state: LifecycleState, event: Event, p: lc.ExperimentStarted) -> LifecycleState:
    experiment = _experiment(state, p.experiment)
    _require(not experiment.running, f"experiment {p.experiment!r} runs already")
    _require(not experiment.stopped, f"experiment {p.experiment!r} was stopped; define a new one")
    for arm in experiment.defined.arms:
        if arm.version:
            _require(
                _known(state, arm.version).ready, f"version {arm.version!r} of arm {arm.name!r} is not ready"
            )
    changed = msgspec.structs.replace(experiment, running=True, started_at=event.recordedtime)
    return _with(state, experiments=_set(state.experiments, p.experiment, changed))


def _stop_experiment(state: LifecycleState, event: Event, p: lc.ExperimentStopped) -> LifecycleState:
    experiment = _experiment(state, p.experiment)
    _require(experiment.running, f"experiment {p.experiment!r} does not run")
    changed = msgspec.structs.replace(experiment, running=False, stopped=True)
    return _with(state, experiments=_set(state.experiments, p.experiment, changed))


def _measure_experiment(state: LifecycleState, event: Event, p: lc.ExperimentMeasured) -> LifecycleState:
    return state


def _experiment(state: LifecycleState, name: str) -> Experiment:
    _require(name in state.experiments, f"no experiment {name!r} was defined")
    return state.experiments[name]


def _define_metric(state: LifecycleState, event: Event, p: lc.MetricDefined) -> LifecycleState:
    return _with(state, metrics=_set(state.metrics, p.metric, p.expression))


def _issue_key(state: LifecycleState, event: Event, p: lc.KeyIssued) -> LifecycleState:
    _require(p.key_id not in state.keys, f"key {p.key_id!r} was issued already")
    return _with(state, keys=_set(state.keys, p.key_id, p))


def _revoke_key(state: LifecycleState, event: Event, p: lc.KeyRevoked) -> LifecycleState:
    _require(p.key_id in state.keys, f"no key {p.key_id!r} is in force")
    return _with(state, keys=MappingProxyType({k: v for k, v in state.keys.items() if k != p.key_id}))


def _keep(state: LifecycleState, event: Event, p: Struct) -> LifecycleState:
    return state


def _raise_alert(state: LifecycleState, event: Event, p: lc.AlertRaised) -> LifecycleState:
    _require(p.alert not in state.alerts, f"alert {p.alert!r} is raised already")
    return _with(state, alerts=_set(state.alerts, p.alert, event.id))


def _clear_alert(state: LifecycleState, event: Event, p: lc.AlertCleared) -> LifecycleState:
    _require(p.alert in state.alerts, f"alert {p.alert!r} is not raised")
    return _with(state, alerts=MappingProxyType({k: v for k, v in state.alerts.items() if k != p.alert}))


_STEPS: Final[dict[type[Struct], Callable[[LifecycleState, Event, Any], LifecycleState]]] = {
    lc.TenantConfigured: _configure,
    lc.DriftDetected: _drift,
    lc.TrainingRequested: _request_training,
    lc.DatasetFrozen: _freeze,
    lc.TrialFinished: _finish_trial,
    lc.TrainingAbandoned: _abandon_training,
    lc.VersionProposed: _propose,
    lc.VersionJudged: _judge,
    lc.VersionReady: _ready,
    lc.RolloutStarted: _start_rollout,
    lc.RolloutAdvanced: _advance_rollout,
    lc.VersionPromoted: _promote,
    lc.VersionRejected: _reject,
    lc.VersionRolledBack: _roll_back,
    lc.ExperimentDefined: _define_experiment,
    lc.ExperimentStarted: _start_experiment,
    lc.ExperimentStopped: _stop_experiment,
    lc.ExperimentMeasured: _measure_experiment,
    lc.MetricDefined: _define_metric,
    lc.KeyIssued: _issue_key,
    lc.KeyRevoked: _revoke_key,
    lc.RejectionReplayed: _keep,
    lc.RejectionDiscarded: _keep,
    lc.AlertRaised: _raise_alert,
    lc.AlertCleared: _clear_alert,
}
