"""Steps of a version: proposed, judged, ready, tried on some users, promoted, rejected, rolled back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from schemas import lifecycle as lc
from schemas.envelope import Event
from schemas.tenant_state import LifecycleState, Rollout, Training, VersionStage, VersionState
from schemas.training_steps import open_training
from schemas.transition import IllegalStep, Steps, change, known_version, put, put_version, require


def _propose(state: LifecycleState, event: Event, p: lc.VersionProposed) -> LifecycleState:
    require(p.version not in state.versions, f"version {p.version!r} was proposed already")
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
    changes: dict[str, object] = {"versions": put(state.versions, p.version, version)}
    if p.origin == "trained":
        training = open_training(state, event, "frozen")
        changes["training"] = msgspec.structs.replace(training, stage="proposed", version=p.version)
    elif p.origin == "base":
        require(state.base is None, f"the base is {state.base!r} already")
        changes["base"] = p.version
    return change(state, **changes)


def _judge(state: LifecycleState, event: Event, p: lc.VersionJudged) -> LifecycleState:
    version = known_version(state, p.version)
    require(
        version.stage == "proposed",
        f"version {p.version!r} is {version.stage}: only proposed ones are judged",
    )
    require(
        version.judged is None or version.judged.champion != p.champion,
        f"version {p.version!r} was judged against {p.champion!r} already: the judge is asked once",
    )
    require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    changes: dict[str, object] = {"judgements": state.judgements + 1}
    if state.training is not None and state.training.version == p.version:
        changes["training"] = msgspec.structs.replace(state.training, stage="judged", judged_by=event.id)
    stage: VersionStage = "admitted" if p.verdict == "admitted" else "proposed"
    changes["versions"] = put_version(state, p.version, stage=stage, judged=p, judged_by=event.id)
    return change(state, **changes)


def _ready(state: LifecycleState, event: Event, p: lc.VersionReady) -> LifecycleState:
    version = known_version(state, p.version)
    require(version.stage not in ("rejected", "rolled_back"), f"version {p.version!r} is {version.stage}")
    return change(state, versions=put_version(state, p.version, ready=True))


def _start_rollout(state: LifecycleState, event: Event, p: lc.RolloutStarted) -> LifecycleState:
    version = known_version(state, p.challenger)
    require(state.rollout is None, "a rollout is running already")
    require(
        version.stage == "admitted",
        f"version {p.challenger!r} is {version.stage}: the judge must admit it first",
    )
    require(version.ready, f"version {p.challenger!r} is not ready to serve")
    require(p.champion == state.champion, f"the champion is {state.champion!r}, not {p.champion!r}")
    return change(
        state,
        rollout=Rollout(id=event.id, started=p, share=p.share),
        versions=put_version(state, p.challenger, stage="canary"),
        training=_unless_about(state.training, p.challenger),
    )


def _advance_rollout(state: LifecycleState, event: Event, p: lc.RolloutAdvanced) -> LifecycleState:
    rollout = state.rollout
    if rollout is None or rollout.started.rollout != p.rollout:
        raise IllegalStep(f"rollout {p.rollout!r} is not running")
    share = rollout.share if p.share is None else p.share
    require(share >= rollout.share, f"a canary grows or ends: its share is {rollout.share}")
    return change(state, rollout=msgspec.structs.replace(rollout, share=share))


def _promote(state: LifecycleState, event: Event, p: lc.VersionPromoted) -> LifecycleState:
    version = known_version(state, p.version)
    require(p.version != state.champion, f"version {p.version!r} is the champion already")
    if p.by == "first":
        require(state.champion is None, f"the champion is {state.champion!r} already")
    elif p.by == "canary":
        require(
            state.rollout is not None and state.rollout.started.challenger == p.version,
            f"version {p.version!r} has no running rollout to win",
        )
    else:
        require(bool(p.reason.strip()), "a person who promotes gives a reason")
        require(version.ready, f"version {p.version!r} is not ready to serve")
    versions = put_version(state, p.version, stage="champion", served=True)
    if state.champion is not None:
        retired = msgspec.structs.replace(versions[state.champion], stage="retired")
        versions = put(versions, state.champion, retired)
    return _crown(state, event, p.version, versions)


def _reject(state: LifecycleState, event: Event, p: lc.VersionRejected) -> LifecycleState:
    version = known_version(state, p.version)
    require(
        version.stage in ("proposed", "admitted", "canary"),
        f"version {p.version!r} is {version.stage} and stays so",
    )
    rollout = state.rollout
    ended = rollout is not None and rollout.started.challenger == p.version
    return change(
        state,
        versions=put_version(state, p.version, stage="rejected"),
        rollout=None if ended else rollout,
        training=_unless_about(state.training, p.version),
    )


def _roll_back(state: LifecycleState, event: Event, p: lc.VersionRolledBack) -> LifecycleState:
    version, target = known_version(state, p.version), known_version(state, p.to)
    if version.stage == "canary":
        require(p.to == state.champion, f"a canary falls back on the champion {state.champion!r}")
        return change(state, versions=put_version(state, p.version, stage="rolled_back"), rollout=None)
    require(
        p.version == state.champion,
        f"version {p.version!r} serves nobody: the champion is {state.champion!r}",
    )
    require(target.served or p.to == state.base, f"version {p.to!r} never served; promote it instead")
    require(p.to != p.version, "a version cannot fall back on itself")
    versions = put_version(state, p.version, stage="rolled_back")
    versions = put(versions, p.to, msgspec.structs.replace(versions[p.to], stage="champion", served=True))
    return _crown(state, event, p.to, versions)


def _crown(
    state: LifecycleState, event: Event, champion: str, versions: Mapping[str, VersionState]
) -> LifecycleState:
    """The state under a new champion: canary and drift were about the old one, and so was the judge."""
    versions = _judged_against(champion, versions)
    return change(
        state,
        champion=champion,
        champion_since=event.recordedtime,
        champion_by=event.id,
        versions=versions,
        rollout=None,
        drift=None,
        last_drift=None,
        last_drift_at=None,
        training=_to_judge_again(_unless_about(state.training, champion), versions),
    )


def _judged_against(champion: str, versions: Mapping[str, VersionState]) -> Mapping[str, VersionState]:
    """The versions on their way, admitted where the judge's word is about this champion."""
    for version in versions.values():
        if version.stage in ("proposed", "admitted", "canary") and version.judged is not None:
            word = version.judged
            counts = word.champion == champion and word.verdict == "admitted"
            stage: VersionStage = "admitted" if counts else "proposed"
            versions = put(versions, version.version, msgspec.structs.replace(version, stage=stage))
    return versions


def _to_judge_again(training: Training | None, versions: Mapping[str, VersionState]) -> Training | None:
    """The open training, back at its proposal if the judge has said nothing that still counts."""
    if training is None or training.stage != "judged" or versions[training.version].stage != "proposed":
        return training
    return msgspec.structs.replace(training, stage="proposed")


def _unless_about(training: Training | None, version: str) -> Training | None:
    return None if training is not None and training.version == version else training


VERSION_STEPS: Final[Steps] = {
    lc.VersionProposed: _propose,
    lc.VersionJudged: _judge,
    lc.VersionReady: _ready,
    lc.RolloutStarted: _start_rollout,
    lc.RolloutAdvanced: _advance_rollout,
    lc.VersionPromoted: _promote,
    lc.VersionRejected: _reject,
    lc.VersionRolledBack: _roll_back,
}
