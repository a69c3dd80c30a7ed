"""What an experiment or a canary shows: per-unit values through the one statistics kernel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learners.ports import ExperimentUnits, UnitMeasure
from learners.statistics.experiment import ArmComparison, compare_samples
from learners.statistics.findings import CannotSay, Interval
from learners.statistics.sample_ratio import check_sample_ratio
from learners.statistics.sufficient import ProportionStatistic, RatioStatistic
from schemas.lifecycle import ArmResult, ExperimentMeasured, Measure

#: Measures that are counted per query are means over queries; the unit is what varies (delta method).
RANDOMISED = "unit"


def compare_units(
    units: Sequence[UnitMeasure],
    control: str,
    treatment: str,
    *,
    alpha: float,
    tuning_units: int,
    minimum_units: int,
) -> ArmComparison:
    """Two arms of one measure, as its mean over queries, with units counted."""
    arms = {name: [u for u in units if u.arm == name] for name in (control, treatment)}
    proportions = None
    if all(u.queries == 1 and u.total in (0.0, 1.0) for u in units):
        proportions = tuple(
            ProportionStatistic.of([u.total for u in arms[name]]) for name in (control, treatment)
        )
    return compare_samples(
        _ratio(arms[control]),
        _ratio(arms[treatment]),
        alpha=alpha,
        tuning_n=tuning_units,
        minimum_units=minimum_units,
        proportions=None if proportions is None else (proportions[0], proportions[1]),
    )


def _ratio(units: Sequence[UnitMeasure]) -> RatioStatistic:
    # Sorted: a floating sum depends on its order, and the figure must not.
    ordered = sorted(units, key=lambda u: u.unit)
    return RatioStatistic.of(
        np.array([u.total for u in ordered]), np.array([float(u.queries) for u in ordered])
    )


def as_measure(metric: str, finding: Interval | CannotSay) -> Measure:
    """A finding of the kernel as it stands in an event."""
    if isinstance(finding, CannotSay):
        return Measure(metric=metric, units=finding.n, note=f"cannot say: {finding.detail}")
    return Measure(
        metric=metric,
        estimate=finding.estimate,
        low=finding.low,
        high=finding.high,
        alpha=finding.alpha,
        horizon=finding.horizon,
        resampled=finding.resampled or RANDOMISED,
        units=finding.n,
    )


def measure_experiment(
    experiment: str,
    units: ExperimentUnits,
    shares: dict[str, float],
    *,
    control: str,
    metrics: Sequence[str],
    alpha: float,
    tuning_units: int,
    minimum_units: int,
) -> ExperimentMeasured:
    """Every metric of every arm against the control: one always-valid interval decides, the rest is shown."""
    results: list[ArmResult] = []
    for metric in metrics:
        rows = units.measures.get(metric, ())
        for arm in shares:
            of_arm = [u for u in rows if u.arm == arm]
            queries = sum(u.queries for u in of_arm)
            mean = sum(u.total for u in of_arm) / queries if queries else None
            if arm == control:
                results.append(ArmResult(arm=arm, metric=metric, units=len(of_arm), mean=mean))
                continue
            compared = compare_units(
                rows, control, arm, alpha=alpha, tuning_units=tuning_units, minimum_units=minimum_units
            )
            results.append(
                ArmResult(
                    arm=arm,
                    metric=metric,
                    units=len(of_arm),
                    mean=mean,
                    always=as_measure(metric, compared.difference),
                    welch=as_measure(metric, compared.welch),
                    proportion=as_measure(metric, compared.proportions),
                )
            )
    ratio = check_sample_ratio({arm: units.exposed.get(arm, 0) for arm in shares}, shares)
    return ExperimentMeasured(
        experiment=experiment,
        results=tuple(results),
        excluded_units=units.excluded_units,
        sample_ratio_p=None if isinstance(ratio, CannotSay) else ratio.always_valid_p_value,
        offsets=units.offsets,
    )
