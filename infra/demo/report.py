"""`report.json`: what the demo shows, with how it was found. The keys of its tables are a promise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from infra.demo.evaluation import Evaluated, Measured
from infra.demo.figures import Value
from infra.demo.story import Step

#: What is said of each arm.
ARM_MEASURES: Final = ("clicked", "reciprocal_rank", "thumbs_up", "thumbs_down")


class Quality(Struct, frozen=True, kw_only=True):
    """The moved topics' test questions, before and after, paired; and the unmoved ones. Metric → value."""

    before: dict[str, Value]
    after: dict[str, Value]
    difference: dict[str, Value]
    unmoved_difference: dict[str, Value]


class Events(Struct, frozen=True, kw_only=True):
    """Distinct events of the application. The first three are from its own record, the others from SQL."""

    sent: int
    acknowledged: int
    refused: int
    stored: int
    rejected: int
    #: Sent, and never answered.
    unconfirmed: int
    #: Sendings, the repeated ones too.
    sendings: int
    #: What all sources together have in the store.
    total_stored: int
    total_rejected: int

    @property
    def adds_up(self) -> bool:
        """Everything that was answered is in the store, once."""
        return self.acknowledged == self.stored and self.refused == self.rejected


class ArmRates(Struct, frozen=True, kw_only=True):
    """What the customers of an arm did, as means over its queries; None where nothing was measured."""

    units: int
    queries: int
    clicked: float | None = None
    reciprocal_rank: float | None = None
    thumbs_up: float | None = None
    thumbs_down: float | None = None


class Canary(Struct, frozen=True, kw_only=True):
    """The two arms over the same time, and their differences by measure as the learner measured them."""

    champion: ArmRates | None = None
    challenger: ArmRates | None = None
    difference: dict[str, Value] = {}
    #: The measure whose interval decides.
    decided_by: str = ""
    experiment: str = ""
    #: Customers that were seen in both arms.
    excluded_units: int = 0


class Slice(Struct, frozen=True, kw_only=True):
    """A part of the test questions: version → metric → value, and the paired difference."""

    questions: int
    versions: dict[str, dict[str, Value]]
    difference: dict[str, Value] = {}


class Link(Struct, frozen=True, kw_only=True):
    """A step and its cause."""

    type: str
    id: str
    causation_id: str
    time: str


class Report(Struct, frozen=True, kw_only=True):
    """Everything that one run showed."""

    seed: int
    control: str
    promoted: bool
    alarmed: bool
    #: How it ended, in one sentence.
    reason: str
    before_version: str
    after_version: str | None
    quality: Quality
    canary: Canary
    events: Events
    chain: list[Link]
    seconds: dict[str, float | None] = {}
    #: Summed PSS of all processes of the stack and the demo, sampled.
    peak_memory_bytes: int = 0
    memory_at_peak_bytes: dict[str, int] = {}
    slices: dict[str, Slice]
    traffic: dict[str, Any]
    topics: dict[str, int]
    trials: list[dict[str, Any]]
    judged: dict[str, Any] | None
    machine: dict[str, Any] = {}

    def completed(
        self,
        *,
        seconds: dict[str, float | None],
        peak_memory_bytes: int,
        memory_at_peak_bytes: dict[str, int],
        machine: dict[str, Any],
    ) -> Report:
        """With what is only known once everything has stopped."""
        return msgspec.structs.replace(
            self,
            seconds={name: None if took is None else round(took, 1) for name, took in seconds.items()},
            peak_memory_bytes=peak_memory_bytes,
            memory_at_peak_bytes=memory_at_peak_bytes,
            machine=machine,
        )


def value_of(measured: Measured | None) -> Value:
    """A figure of `ratchet evaluate`."""
    if measured is None:
        return Value()
    kind = f"{1 - measured.alpha:.0%} {measured.horizon}, " if measured.alpha is not None else ""
    return Value(
        value=measured.estimate,
        low=measured.low,
        high=measured.high,
        interval_from=f"{kind}{measured.resampled} resampled" if measured.resampled else measured.note,
    )


def quality_of(evaluated: Evaluated, before: str, after: str | None) -> Quality:
    """The report's four tables."""

    def table(version: str | None, slice_name: str, differences: bool) -> dict[str, Value]:
        score = None if version is None else evaluated.score(version, slice_name)
        found = {} if score is None else score.differences if differences else score.values
        return {metric: value_of(found.get(metric)) for metric in ("ndcg@10", "mrr@10")}

    return Quality(
        before=table(before, "moved", differences=False),
        after=table(after, "moved", differences=False),
        difference=table(after, "moved", differences=True),
        unmoved_difference=table(after, "unmoved", differences=True),
    )


def slices_of(evaluated: Evaluated) -> dict[str, Slice]:
    """Every slice, with every version."""
    slices: dict[str, Slice] = {}
    for name in dict.fromkeys(score.slice for score in evaluated.scores):
        scores = [score for score in evaluated.scores if score.slice == name]
        slices[name] = Slice(
            questions=scores[0].questions,
            versions={score.version: _values(score.values) for score in scores},
            difference=next((_values(score.differences) for score in scores if score.differences), {}),
        )
    return slices


def _values(measured: Mapping[str, Measured]) -> dict[str, Value]:
    return {metric: value_of(one) for metric, one in measured.items()}


def links_of(chain: list[Step]) -> list[Link]:
    """The chain without its data."""
    return [
        Link(type=step.type, id=step.id, causation_id=step.causation_id, time=step.time) for step in chain
    ]


def arm_of(rows: Sequence[Mapping[str, Any]], arm: str) -> ArmRates:
    """From rows of (arm, measure, units, queries, total)."""
    own = {row["measure"]: row for row in rows if row["arm"] == arm}
    asked = own.get("queries", {"units": 0, "queries": 0})
    rates = {
        name: own[name]["total"] / own[name]["queries"]
        for name in ARM_MEASURES
        if name in own and own[name]["queries"]
    }
    return ArmRates(units=asked["units"], queries=asked["queries"], **rates)


def write_report(report: Report, path: Path) -> None:
    """Write it so that a reader never sees a part of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    fresh.replace(path)
