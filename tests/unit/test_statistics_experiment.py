"""From rows to arms to results, and the check of the arms' shares."""

import msgspec
import numpy as np
import pytest
from scipy import stats

from learners.statistics.experiment import ArmComparison, compare_arms, compare_samples, gather_units
from learners.statistics.findings import CannotSay, Interval
from learners.statistics.sample_ratio import SampleRatio, check_sample_ratio
from learners.statistics.sufficient import RatioStatistic


def test_values_are_summed_per_unit_and_two_arms_exclude() -> None:
    gathered = gather_units(
        units=["a", "b", "a", "c", "c", "d", "d", "e"],
        arms=["red", "red", "red", "red", "blue", "blue", "", ""],
        values=[1.0, 2.0, 3.0, 9.0, 9.0, 5.0, 7.0, 7.0],
    )
    assert sorted(gathered.arms) == ["blue", "red"]
    assert gathered.arms["red"].sums.tolist() == [4.0, 2.0]
    assert gathered.arms["red"].rows.tolist() == [2.0, 1.0]
    assert gathered.arms["red"].means().tolist() == [2.0, 2.0]
    assert gathered.arms["red"].ratio() == RatioStatistic.of([4.0, 2.0], [2.0, 1.0])
    assert gathered.arms["blue"].sums.tolist() == [5.0]
    assert gathered.excluded_units == 1
    assert gathered.unexposed_rows == 2


def test_no_rows_are_no_arms() -> None:
    gathered = gather_units([], [], [])
    assert (gathered.arms, gathered.excluded_units, gathered.unexposed_rows) == ({}, 0, 0)


def test_an_arm_whose_every_unit_is_excluded_stays_as_an_empty_arm() -> None:
    gathered = gather_units(["a", "a", "b"], ["red", "blue", "red"], [1.0, 1.0, 1.0])
    assert gathered.arms["blue"].sums.size == 0
    assert gathered.arms["red"].sums.tolist() == [1.0]


@pytest.mark.parametrize(
    ("units", "arms", "values"), [(["a"], ["x", "y"], [1.0]), (["a"], ["x"], [float("nan")])]
)
def test_wrong_rows_are_errors(units: list[str], arms: list[str], values: list[float]) -> None:
    with pytest.raises(ValueError, match=r"flat arrays|finite"):
        gather_units(units, arms, values)


def test_a_share_of_units_gets_all_four_results() -> None:
    control, treatment = np.repeat([0.0, 1.0], [900, 100]), np.repeat([0.0, 1.0], [820, 180])
    comparison = compare_arms(control, treatment, alpha=0.05, tuning_n=2000)
    findings = (
        comparison.difference,
        comparison.relative_difference,
        comparison.welch,
        comparison.proportions,
    )
    intervals = [finding for finding in findings if isinstance(finding, Interval)]
    assert [interval.horizon for interval in intervals] == ["always", "always", "fixed", "fixed"]
    assert [round(interval.estimate, 3) for interval in intervals] == [0.08, 0.8, 0.08, 0.08]
    # Looking at any time has its price.
    assert intervals[0].low < intervals[2].low
    assert (comparison.control.units, comparison.control.mean) == (1000, 0.1)


def test_a_comparison_says_of_each_part_what_it_cannot_say() -> None:
    comparison = compare_arms([1.0, 2.5, 3.0], [], alpha=0.05, tuning_n=2000)
    assert comparison.treatment.mean is None
    assert isinstance(comparison.proportions, CannotSay)
    assert comparison.proportions.reason == "not_binary"
    assert isinstance(comparison.difference, CannotSay)
    assert comparison.difference.reason == "too_few_units"
    assert msgspec.json.decode(msgspec.json.encode(comparison), type=ArmComparison) == comparison


def test_a_ratio_is_compared_by_its_units() -> None:
    # 200 units with 50 queries each, all alike within a unit: 200 observations, not 10,000.
    clicks = np.repeat([0.0, 50.0], 100)
    arm = RatioStatistic.of(clicks, np.full(200, 50.0))
    comparison = compare_samples(arm, arm, alpha=0.05, tuning_n=400)
    assert isinstance(comparison.welch, Interval)
    assert comparison.welch.high == pytest.approx(1.966 * np.sqrt(2 * 0.25 / 199), rel=1e-3)


def test_chi_square_of_shares_equals_scipy() -> None:
    ratio = check_sample_ratio({"a": 480, "b": 560}, {"a": 0.5, "b": 0.5})
    assert isinstance(ratio, SampleRatio)
    assert ratio.p_value == pytest.approx(stats.chisquare([480, 560]).pvalue)
    assert ratio.expected == {"a": 520.0, "b": 520.0}
    assert not ratio.mismatch


def test_a_broken_split_is_a_mismatch_and_a_right_one_is_not() -> None:
    broken = check_sample_ratio({"a": 10_000, "b": 9_200}, {"a": 1, "b": 1})
    missing = check_sample_ratio({"a": 500}, {"a": 0.9, "b": 0.1})
    right = check_sample_ratio({"a": 9_012, "b": 988}, {"a": 0.9, "b": 0.1})
    assert isinstance(broken, SampleRatio)
    assert isinstance(missing, SampleRatio)
    assert isinstance(right, SampleRatio)
    assert (broken.mismatch, missing.mismatch, right.mismatch) == (True, True, False)
    assert missing.counts == {"a": 500, "b": 0}


def test_few_units_cannot_show_a_mismatch() -> None:
    finding = check_sample_ratio({"a": 9, "b": 0}, {"a": 0.9, "b": 0.1})
    assert isinstance(finding, CannotSay)
    assert (finding.reason, finding.needed) == ("too_few_units", 50)


def test_units_of_an_unknown_arm_are_an_error() -> None:
    with pytest.raises(ValueError, match="expected counts"):
        check_sample_ratio({"c": 9}, {"a": 0.5, "b": 0.5})
