"""What is true of a tenant after a prefix of its lifecycle: versions, open training, running canary."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from msgspec import Struct

from schemas import lifecycle as lc

VersionStage = Literal["proposed", "admitted", "canary", "champion", "retired", "rejected", "rolled_back"]
TrainingStage = Literal["requested", "frozen", "proposed", "judged"]


class Seen(Struct, frozen=True):
    """A set that grows by one: the old one stays as it is, and each event copies few of the others.

    Parts at least halve from one to the next, so a long lifecycle costs n log n and not n².
    """

    parts: tuple[frozenset[tuple[str, str]], ...] = ()

    def __contains__(self, key: object) -> bool:
        return any(key in part for part in self.parts)

    def and_one(self, key: tuple[str, str]) -> Seen:
        """This set and `key`."""
        parts, last = self.parts, frozenset((key,))
        while parts and len(parts[-1]) <= len(last):
            last, parts = parts[-1] | last, parts[:-1]
        return Seen((*parts, last))


class VersionState(Struct, frozen=True, kw_only=True):
    """A version and how far it came. `served` says that it was champion at some time."""

    version: str
    stage: VersionStage
    manifest_hash: str
    origin: str
    parent: str
    dataset_id: str
    proposed_by: str  #: id of its version.proposed event
    ready: bool = False
    served: bool = False
    validation: float | None = None
    #: The judge's word, and the id of the event that says it.
    judged: lc.VersionJudged | None = None
    judged_by: str = ""


class Trial(Struct, frozen=True, kw_only=True):
    """A finished trial of the open training."""

    number: int
    state: Literal["complete", "failed"]
    parameters: Mapping[str, str | int | float | bool | None]
    value: float | None
    event_id: str


class Training(Struct, frozen=True, kw_only=True):
    """The open training: at most one a tenant."""

    id: str  #: id of its training.requested event
    stage: TrainingStage
    champion: str
    seed: int
    cause: str | None
    dataset_id: str = ""
    frozen_by: str = ""  #: id of its dataset.frozen event
    trials: tuple[Trial, ...] = ()
    version: str = ""
    judged_by: str = ""  #: id of its version.judged event


class Rollout(Struct, frozen=True, kw_only=True):
    """The running canary: at most one a tenant."""

    id: str  #: id of its rollout.started event
    started: lc.RolloutStarted
    share: float


class Experiment(Struct, frozen=True, kw_only=True):
    """An A/B test that was defined."""

    defined: lc.ExperimentDefined
    running: bool = False
    started_at: dt.datetime | None = None
    started_by: str = ""  #: id of its experiment.started event
    stopped: bool = False

    @property
    def serves_versions(self) -> bool:
        """Whether an arm of it is served a version of its own."""
        return any(arm.version for arm in self.defined.arms)


class LifecycleState(Struct, frozen=True, kw_only=True):
    """What is true of one tenant after a prefix of its lifecycle."""

    mode: Literal["propose", "auto"] = "propose"
    base: str | None = None
    champion: str | None = None
    #: Time at which the champion became it; None before the first.
    champion_since: dt.datetime | None = None
    #: Id of the event that made it champion.
    champion_by: str | None = None
    versions: Mapping[str, VersionState] = MappingProxyType({})
    #: The last drift.detected, until a training answers it: (event id, payload).
    drift: tuple[str, lc.DriftDetected] | None = None
    #: The latest drift.detected of this champion, answered or not: the watch goes on after it.
    last_drift: tuple[str, lc.DriftDetected] | None = None
    #: When it was received.
    last_drift_at: dt.datetime | None = None
    training: Training | None = None
    rollout: Rollout | None = None
    experiments: Mapping[str, Experiment] = MappingProxyType({})
    metrics: Mapping[str, str] = MappingProxyType({})
    keys: Mapping[str, lc.KeyIssued] = MappingProxyType({})
    alerts: Mapping[str, str] = MappingProxyType({})
    #: Topic → id of the event that closed it. Of tenant `platform` only, as is the next.
    closed: Mapping[str, str] = MappingProxyType({})
    #: Topic → partitions it had when it was last opened.
    partitions: Mapping[str, int] = MappingProxyType({})
    #: How often the judge spoke: its alpha is spent over all of these.
    judgements: int = 0
    #: (source, id) of every event seen, so that a repeated one is known.
    seen: Seen = Seen()

    def serving_versions(self) -> tuple[str, ...]:
        """Versions that whoever serves should have ready: champion first, then candidates, then arms."""
        wanted = [self.champion] if self.champion else []
        wanted += [v.version for v in self.versions.values() if v.stage in ("admitted", "canary")]
        wanted += [
            arm.version
            for e in self.experiments.values()
            if e.running
            for arm in e.defined.arms
            if arm.version
        ]
        return tuple(dict.fromkeys(wanted))
