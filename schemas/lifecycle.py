"""What the platform does, as events: drift, training, versions, rollouts, experiments. Topic `lifecycle`.

`lifecycle` is a sequence: one partition a tenant, ordered by offset, folded by `lifecycle_state`.
Every event names its cause (`causationid`): the step before it, or the command of a person.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from schemas.envelope import Instant

Verdict = Literal["admitted", "refused", "cannot_say"]
Number = int | float
#: Offsets of a topic: partition (as text) → next offset to read.
PartitionOffsets = dict[str, int]


class Measure(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A measured difference with its interval; `low` and `high` are None when nothing can be said."""

    metric: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    alpha: float | None = None
    horizon: Annotated[Literal["always", "fixed", ""], Meta(description="always-valid or fixed-horizon")] = ""
    resampled: Annotated[str, Meta(description="What was resampled or randomised.")] = ""
    units: Annotated[int, Meta(ge=0, description="Units (or question groups) behind the figure.")] = 0
    note: str = ""


class TenantConfigured(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far the learner goes on its own. `ratchet.tenant.configured.v1`."""

    mode: Annotated[Literal["propose", "auto"], Meta(description="propose stops after version.judged")] = (
        "propose"
    )


class DriftSignal(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One test of one column of one window."""

    column: str
    method: Annotated[str, Meta(description="The test, by name, with its direction.")]
    statistic: float
    threshold: Annotated[float, Meta(description="What the statistic was compared with.")]
    p_value: float | None = None
    fired: bool = False


class DriftDetected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The input or the behaviour is no longer what it was. `ratchet.drift.detected.v1`."""

    champion: str
    window: Annotated[int, Meta(ge=0, description="Number of the window since the reference was fixed.")]
    reference_queries: int
    window_queries: int
    first_query_id: str = ""
    last_query_id: str = ""
    signals: tuple[DriftSignal, ...] = ()
    alpha: Annotated[float, Meta(description="False-alarm budget of the whole watch.")]


class TrainingRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A retrain should start. `ratchet.training.requested.v1`."""

    champion: str
    reason: Annotated[Literal["drift", "command", "schedule"], Meta(description="Why.")] = "drift"
    seed: int = 0


class DatasetFrozen(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The training data is fixed and can be made again from the log. `ratchet.dataset.frozen.v1`."""

    dataset_id: Annotated[str, Meta(description="Hash of content, rules and seeds.")]
    offsets: dict[str, PartitionOffsets]
    rules: str
    queries: dict[str, int] = {}
    pairs: dict[str, int] = {}
    dropped: Annotated[dict[str, int], Meta(description="Pairs left out, by reason.")] = {}


class TrialFinished(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One trial of the study ended. `ratchet.trial.finished.v1`."""

    dataset_id: str
    number: Annotated[int, Meta(ge=0)]
    state: Literal["complete", "failed"]
    parameters: dict[str, str | int | float | bool | None] = {}
    value: Annotated[
        float | None, Meta(description="nDCG@10 of the whole pipeline on validation groups.")
    ] = None
    seconds: float = 0.0
    error: str = ""


class TrainingAbandoned(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A retrain ended without a version. `ratchet.training.abandoned.v1`."""

    reason: str


class VersionProposed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A complete, synced, hash-checked pipeline exists. `ratchet.version.proposed.v1`."""

    version: Annotated[str, Meta(min_length=1)]
    manifest_hash: Annotated[str, Meta(description="SHA-256 (hex) of pipeline.json.")]
    origin: Annotated[Literal["base", "trained", "imported"], Meta(description="Where it comes from.")] = (
        "trained"
    )
    parent: str = ""
    dataset_id: str = ""
    trial: int | None = None
    validation: float | None = None


class VersionJudged(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The judge compared it with the champion, once. `ratchet.version.judged.v1`."""

    version: str
    champion: str
    verdict: Verdict
    reason: str
    measure: Measure
    margin: Annotated[float, Meta(ge=0, description="How much worse still counts as no worse.")]
    unlabelled_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.0


class VersionReady(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whoever serves says that this version can serve. `ratchet.version.ready.v1`."""

    version: str
    by: Annotated[str, Meta(description="search, or the application's own name.")] = "search"


class RolloutStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A canary begins, its rule fixed beforehand. `ratchet.rollout.started.v1`."""

    rollout: Annotated[str, Meta(min_length=1, description="Also the experiment's name in exposures.")]
    challenger: str
    champion: str
    share: Annotated[float, Meta(gt=0, lt=1, description="Share of units that get the challenger.")]
    metric: Annotated[str, Meta(description="The one primary measure, per unit.")]
    guardrails: Annotated[dict[str, float], Meta(description="measure → relative fall that is too much")] = {}
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    minimum_units: Annotated[int, Meta(ge=1)] = 100
    tuning_units: Annotated[int, Meta(ge=1, description="Units at which the interval is tightest.")] = 1000
    started_at: Instant
    deadline: Instant


class RolloutAdvanced(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A look at the canary that decides nothing yet. `ratchet.rollout.advanced.v1`."""

    rollout: str
    measure: Measure
    share: float | None = None


class VersionPromoted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """It is the champion from now on. `ratchet.version.promoted.v1`."""

    version: str
    previous: str = ""
    by: Annotated[Literal["canary", "person", "first"], Meta(description="Who decided.")] = "canary"
    reason: str
    measure: Measure | None = None


class VersionRejected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """It will not serve; the champion stays. `ratchet.version.rejected.v1`."""

    version: str
    reason: str
    verdict: Verdict = "refused"
    measure: Measure | None = None


class VersionRolledBack(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """It is taken out and `to` serves. `ratchet.version.rolled_back.v1`."""

    version: str
    to: str
    reason: str
    measure: Measure | None = None


class Arm(Struct, frozen=True, omit_defaults=True):
    """An arm of an experiment; `version` is what its units are served, '' for the champion."""

    name: Annotated[str, Meta(min_length=1)]
    weight: Annotated[float, Meta(ge=0, le=1)]
    version: str = ""


class ExperimentDefined(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An A/B test, before it runs. `ratchet.experiment.defined.v1`. The first arm is the control."""

    experiment: Annotated[str, Meta(min_length=1)]
    arms: Annotated[tuple[Arm, ...], Meta(min_length=2)]
    metrics: tuple[str, ...] = ("clicked",)
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.05
    minimum_units: Annotated[int, Meta(ge=1)] = 100
    coverage: Annotated[float, Meta(gt=0, le=1)] = 1.0


class ExperimentStarted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Units are assigned from now on. `ratchet.experiment.started.v1`."""

    experiment: str


class ExperimentStopped(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """No unit is assigned any more. `ratchet.experiment.stopped.v1`."""

    experiment: str
    reason: str = ""


class ArmResult(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measure of one arm, counted by unit, and its difference from the control."""

    arm: str
    metric: str
    units: int
    mean: float | None = None
    always: Measure | None = None
    welch: Annotated[Measure | None, Meta(description="Fixed-horizon: valid at one look only.")] = None
    proportion: Annotated[Measure | None, Meta(description="Fixed-horizon: valid at one look only.")] = None


class ExperimentMeasured(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What an experiment or a canary shows now. `ratchet.experiment.measured.v1`."""

    experiment: str
    results: tuple[ArmResult, ...] = ()
    excluded_units: Annotated[int, Meta(ge=0, description="Units seen in two arms.")] = 0
    sample_ratio_p: Annotated[float | None, Meta(description="p of the sample-ratio test; small is bad.")] = (
        None
    )
    offsets: Annotated[
        dict[str, PartitionOffsets], Meta(description="Committed before the figures were read.")
    ] = {}


class MetricDefined(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An expression over built-in measures. `ratchet.metric.defined.v1`."""

    metric: Annotated[str, Meta(min_length=1)]
    expression: str


_RATE: Final = "In each process; 0 = no limit, absent = as the settings say."


class KeyIssued(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key exists; only its hash is stored. `ratchet.key.issued.v1`."""

    key_id: str
    key_hash: Annotated[str, Meta(description="SHA-256 (hex) of the key.")]
    scopes: tuple[Literal["send", "read", "administer"], ...] = ("send",)
    name: Annotated[str, Meta(description="What it is for, in the words of whoever issued it.")] = ""
    hint: Annotated[str, Meta(description="Last characters of the key, to tell keys apart.")] = ""
    issued_by: Annotated[str, Meta(description="The key or the person that issued it.")] = ""
    issued_at: Instant | None = None
    max_requests_per_s: Annotated[float, Meta(ge=0, description=_RATE)] | None = None
    max_events_per_s: Annotated[float, Meta(ge=0, description=_RATE)] | None = None


class KeyRevoked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An API key is void. `ratchet.key.revoked.v1`."""

    key_id: str


class RejectionReplayed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rejected entry was mended and sent again. `ratchet.rejection.replayed.v1`."""

    entry_id: str
    event_source: str
    event_id: str
    subject: Annotated[str, Meta(description="The query, document or reference of the event.")] = ""


class RejectionDiscarded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A rejected entry will never be sent again. `ratchet.rejection.discarded.v1`."""

    entry_id: str
    reason: str


class TopicClosed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Doors take nothing for this topic until it is opened. `ratchet.topic.closed.v1` (tenant `platform`)."""

    topic: Literal["interactions", "documents", "rejected"]
    reason: str = ""


class TopicOpened(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Doors take events for this topic again. `ratchet.topic.opened.v1` (tenant `platform`)."""

    topic: Literal["interactions", "documents", "rejected"]
    partitions: Annotated[int, Meta(ge=1, description="How many it has now: whoever appends counts anew.")]


class AlertRaised(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alert rule holds. `ratchet.alert.raised.v1`."""

    alert: str
    summary: str
    value: float | None = None


class AlertCleared(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An alert rule no longer holds. `ratchet.alert.cleared.v1`."""

    alert: str
