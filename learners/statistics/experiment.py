"""From rows of units to a result: sum per unit, leave out who saw two arms, compare the arms."""

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from learners.statistics.findings import CannotSay, Interval
from learners.statistics.fixed import two_proportions, welch
from learners.statistics.sequential import MINIMUM_UNITS, always_valid_interval
from learners.statistics.sufficient import (
    FloatArray,
    MeanStatistic,
    ProportionStatistic,
    RatioStatistic,
    Sample,
)


class ArmUnits(NamedTuple):
    """The units of one arm, in the order of their names; both arrays are (units,)."""

    sums: FloatArray
    """Sum of the unit's values."""
    rows: FloatArray
    """How many rows (queries) the unit had."""

    def means(self) -> FloatArray:
        """(units,) mean value of a row, each unit counted once."""
        means: FloatArray = self.sums / self.rows
        return means

    def ratio(self) -> RatioStatistic:
        """Values per row over the whole arm, units counted (delta method)."""
        return RatioStatistic.of(self.sums, self.rows)


class UnitsByArm(NamedTuple):
    arms: dict[str, ArmUnits]
    excluded_units: int
    """Units seen in more than one arm; none of their rows is in `arms`."""
    unexposed_rows: int
    """Rows with an empty arm; they are in no arm and exclude nobody."""


class ArmSummary(msgspec.Struct, frozen=True):
    units: int
    mean: float | None
    """None where it is undefined (no units, or a ratio whose denominators are 0)."""


class ArmComparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two arms and one metric. `difference` decides; all below it is for readers."""

    control: ArmSummary
    treatment: ArmSummary
    difference: Interval | CannotSay
    relative_difference: Interval | CannotSay
    welch: Interval | CannotSay
    proportions: Interval | CannotSay


def gather_units(units: ArrayLike, arms: ArrayLike, values: ArrayLike) -> UnitsByArm:
    """Sum values per unit and split the units by arm.

    units, arms: (rows,) strings; values: (rows,) finite numbers. Any order of the same rows gives exactly the
    same result. Raises ValueError for other shapes or values.
    """
    unit, arm = np.asarray(units, dtype=np.str_), np.asarray(arms, dtype=np.str_)
    value = np.asarray(values, dtype=np.float64)
    if not (unit.ndim == 1 and unit.shape == arm.shape == value.shape):
        raise ValueError(
            f"expected three flat arrays of one length, got {unit.shape}, {arm.shape}, {value.shape}"
        )
    if not np.isfinite(value).all():
        raise ValueError(f"values must be finite; {int((~np.isfinite(value)).sum())} of {value.size} are not")
    exposed = arm != ""
    # Sorted values, too: a floating sum depends on its order.
    order = np.lexsort((value, arm, unit))
    order = order[exposed[order]]
    _, unit_of = np.unique(unit[order], return_inverse=True)
    names, arm_of = np.unique(arm[order], return_inverse=True)
    sums, rows = np.bincount(unit_of, weights=value[order]), np.bincount(unit_of).astype(np.float64)
    # (units,) first and last arm in sorted order: they differ where a unit saw two.
    first, last = _first_and_last(arm_of, unit_of)
    single = first == last
    by_arm = {
        str(name): ArmUnits(sums[single & (first == index)], rows[single & (first == index)])
        for index, name in enumerate(names)
    }
    return UnitsByArm(by_arm, int((~single).sum()), int((~exposed).sum()))


def _first_and_last(
    arm_of: NDArray[np.intp], unit_of: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(units,) each; rows are sorted by unit, then arm."""
    starts = np.flatnonzero(np.diff(unit_of, prepend=-1))
    ends = np.append(starts[1:], unit_of.size) - 1
    return arm_of[starts], arm_of[ends] if starts.size else arm_of[starts]


def compare_arms(
    control_units: ArrayLike,
    treatment_units: ArrayLike,
    *,
    alpha: float,
    tuning_n: float,
    minimum_units: int = MINIMUM_UNITS,
) -> ArmComparison:
    """Compare two arms by one value per unit. control_units, treatment_units: (units,) finite numbers.

    The two-proportion test is filled in if all values are 0 or 1; else it says `not_binary`.
    Other arguments as in `always_valid_interval`.
    """
    control, treatment = np.asarray(control_units, np.float64), np.asarray(treatment_units, np.float64)
    proportions = None
    if np.isin(control, (0.0, 1.0)).all() and np.isin(treatment, (0.0, 1.0)).all():
        proportions = ProportionStatistic.of(control), ProportionStatistic.of(treatment)
    return compare_samples(
        MeanStatistic.of(control),
        MeanStatistic.of(treatment),
        alpha=alpha,
        tuning_n=tuning_n,
        minimum_units=minimum_units,
        proportions=proportions,
    )


def compare_samples(
    control: Sample,
    treatment: Sample,
    *,
    alpha: float,
    tuning_n: float,
    minimum_units: int = MINIMUM_UNITS,
    proportions: tuple[ProportionStatistic, ProportionStatistic] | None = None,
) -> ArmComparison:
    """As `compare_arms`, from sufficient statistics (a `RatioStatistic`, or sums that SQL computed).

    proportions: (control, treatment) of the same units, if the metric is a share of units.
    """
    return ArmComparison(
        control=_summarise(control),
        treatment=_summarise(treatment),
        difference=always_valid_interval(
            control, treatment, alpha=alpha, tuning_n=tuning_n, minimum_units=minimum_units
        ),
        relative_difference=always_valid_interval(
            control,
            treatment,
            alpha=alpha,
            tuning_n=tuning_n,
            minimum_units=minimum_units,
            measures="relative_difference",
        ),
        welch=welch(control, treatment, alpha=alpha),
        proportions=(
            two_proportions(*proportions, alpha=alpha)
            if proportions
            else CannotSay(
                "not_binary", "a share of units needs values of 0 and 1 only", n=control.n + treatment.n
            )
        ),
    )


def _summarise(sample: Sample) -> ArmSummary:
    try:
        return ArmSummary(sample.n, sample.mean)
    except ValueError:
        return ArmSummary(sample.n, None)
