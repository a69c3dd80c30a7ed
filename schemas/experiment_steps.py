"""Steps of experiments, and of what a tenant is configured with: mode, metrics, keys, topics, alerts."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

import msgspec
from msgspec import Struct

from schemas import lifecycle as lc
from schemas.envelope import Event
from schemas.tenant_state import Experiment, LifecycleState
from schemas.topics import PLATFORM
from schemas.transition import Steps, change, known_version, put, require


def _define_experiment(state: LifecycleState, event: Event, p: lc.ExperimentDefined) -> LifecycleState:
    require(
        p.experiment not in state.experiments,
        f"experiment {p.experiment!r} is defined already; take a new name",
    )
    require(abs(sum(arm.weight for arm in p.arms) - 1) < 1e-6, "the weights of the arms must sum to 1")
    require(all(arm.weight > 0 for arm in p.arms), "every arm needs a weight above 0")
    require(len({arm.name for arm in p.arms}) == len(p.arms), "the arms' names must differ")
    return change(state, experiments=put(state.experiments, p.experiment, Experiment(defined=p)))


def _start_experiment(state: LifecycleState, event: Event, p: lc.ExperimentStarted) -> LifecycleState:
    experiment = _experiment(state, p.experiment)
    require(not experiment.running, f"experiment {p.experiment!r} runs already")
    require(not experiment.stopped, f"experiment {p.experiment!r} was stopped; define a new one")
    for arm in experiment.defined.arms:
        if arm.version:
            require(
                known_version(state, arm.version).ready,
                f"version {arm.version!r} of arm {arm.name!r} is not ready",
            )
    if experiment.serves_versions:
        others = (
            name for name, other in state.experiments.items() if other.running and other.serves_versions
        )
        other = next(others, None)
        require(other is None, f"experiment {other!r} serves versions, too, and runs: stop it first")
    changed = msgspec.structs.replace(
        experiment, running=True, started_at=event.recordedtime, started_by=event.id
    )
    return change(state, experiments=put(state.experiments, p.experiment, changed))


def _stop_experiment(state: LifecycleState, event: Event, p: lc.ExperimentStopped) -> LifecycleState:
    experiment = _experiment(state, p.experiment)
    require(experiment.running, f"experiment {p.experiment!r} does not run")
    changed = msgspec.structs.replace(experiment, running=False, stopped=True)
    return change(state, experiments=put(state.experiments, p.experiment, changed))


def _experiment(state: LifecycleState, name: str) -> Experiment:
    require(name in state.experiments, f"no experiment {name!r} was defined")
    return state.experiments[name]


def _configure(state: LifecycleState, event: Event, p: lc.TenantConfigured) -> LifecycleState:
    return change(state, mode=p.mode)


def _define_metric(state: LifecycleState, event: Event, p: lc.MetricDefined) -> LifecycleState:
    return change(state, metrics=put(state.metrics, p.metric, p.expression))


def _issue_key(state: LifecycleState, event: Event, p: lc.KeyIssued) -> LifecycleState:
    require(p.key_id not in state.keys, f"key {p.key_id!r} was issued already")
    return change(state, keys=put(state.keys, p.key_id, p))


def _revoke_key(state: LifecycleState, event: Event, p: lc.KeyRevoked) -> LifecycleState:
    require(p.key_id in state.keys, f"no key {p.key_id!r} is in force")
    return change(state, keys=MappingProxyType({k: v for k, v in state.keys.items() if k != p.key_id}))


def _raise_alert(state: LifecycleState, event: Event, p: lc.AlertRaised) -> LifecycleState:
    require(p.alert not in state.alerts, f"alert {p.alert!r} is raised already")
    return change(state, alerts=put(state.alerts, p.alert, event.id))


def _clear_alert(state: LifecycleState, event: Event, p: lc.AlertCleared) -> LifecycleState:
    require(p.alert in state.alerts, f"alert {p.alert!r} is not raised")
    return change(state, alerts=MappingProxyType({k: v for k, v in state.alerts.items() if k != p.alert}))


def _close_topic(state: LifecycleState, event: Event, p: lc.TopicClosed) -> LifecycleState:
    require(event.tenant == PLATFORM, f"topics are closed for all tenants: by {PLATFORM!r} only")
    require(p.topic not in state.closed, f"topic {p.topic!r} is closed already")
    return change(state, closed=put(state.closed, p.topic, event.id))


def _open_topic(state: LifecycleState, event: Event, p: lc.TopicOpened) -> LifecycleState:
    require(p.topic in state.closed, f"topic {p.topic!r} is not closed")
    before = state.partitions.get(p.topic, 0)
    require(p.partitions >= before, f"topic {p.topic!r} had {before} partitions; it cannot lose one")
    return change(
        state,
        closed=MappingProxyType({k: v for k, v in state.closed.items() if k != p.topic}),
        partitions=put(state.partitions, p.topic, p.partitions),
    )


def _keep(state: LifecycleState, event: Event, p: Struct) -> LifecycleState:
    """The log keeps it; nothing follows for the state."""
    return state


EXPERIMENT_STEPS: Final[Steps] = {
    lc.ExperimentDefined: _define_experiment,
    lc.ExperimentStarted: _start_experiment,
    lc.ExperimentStopped: _stop_experiment,
    lc.ExperimentMeasured: _keep,
}
CONFIGURATION_STEPS: Final[Steps] = {
    lc.TenantConfigured: _configure,
    lc.MetricDefined: _define_metric,
    lc.KeyIssued: _issue_key,
    lc.KeyRevoked: _revoke_key,
    lc.RejectionReplayed: _keep,
    lc.RejectionDiscarded: _keep,
    lc.TopicClosed: _close_topic,
    lc.TopicOpened: _open_topic,
    lc.AlertRaised: _raise_alert,
    lc.AlertCleared: _clear_alert,
}
