"""Fixed-horizon comparisons against scipy.stats, gbstats and published numbers."""

import numpy as np
import pytest
from scipy import stats

from learners.statistics.findings import CannotSay, Interval
from learners.statistics.fixed import two_proportions, welch, wilson_bounds
from learners.statistics.sufficient import MeanStatistic, ProportionStatistic


def test_welch_equals_scipy() -> None:
    rng = np.random.default_rng(3)
    control, treatment = rng.normal(1.0, 1.0, 40), rng.normal(1.4, 3.0, 25)
    expected = stats.ttest_ind(treatment, control, equal_var=False)
    low, high = expected.confidence_interval(0.9)
    interval = welch(MeanStatistic.of(control), MeanStatistic.of(treatment), alpha=0.1)
    assert isinstance(interval, Interval)
    assert (interval.low, interval.high, interval.p_value) == pytest.approx((low, high, expected.pvalue))
    assert interval.horizon == "fixed"


def test_welch_equals_gbstats() -> None:
    # gbstats 0.8.0 (PyPI), TwoSidedTTest, absolute and relative.
    arms = ProportionStatistic(1000, 100), ProportionStatistic(1000, 130)
    absolute = welch(*arms, alpha=0.05)
    assert isinstance(absolute, Interval)
    assert (absolute.low, absolute.high, absolute.p_value) == pytest.approx(
        (0.0020507842909493826, 0.057949215709050615, 0.03541149025749646)
    )
    means = MeanStatistic(300, 270.0, 848.79), MeanStatistic(700, 1300.0, 4200.0)
    unequal = welch(*means, alpha=0.05)
    assert isinstance(unequal, Interval)
    assert (unequal.low, unequal.high) == pytest.approx((0.756851381377765, 1.1574343329079495))


def test_a_relative_difference_is_the_delta_method() -> None:
    control, treatment = MeanStatistic(500, 1000.0, 4000.0), MeanStatistic(500, 1200.0, 5200.0)
    interval = welch(control, treatment, alpha=0.05, measures="relative_difference")
    assert isinstance(interval, Interval)
    # gbstats 0.8.0 takes the degrees of freedom of the absolute difference: the fourth digit at 500 units.
    assert (interval.low, interval.high) == pytest.approx((0.05835070989, 0.34164929011), rel=1e-3)


def test_newcombe_equals_the_published_example() -> None:
    # Newcombe (1998), table II, row (a): 56/70 against 48/80, method 10: 0.0524 to 0.3339.
    interval = two_proportions(ProportionStatistic(80, 48), ProportionStatistic(70, 56), alpha=0.05)
    assert isinstance(interval, Interval)
    assert (round(interval.low, 4), round(interval.high, 4)) == (0.0524, 0.3339)


def test_chi_square_and_wilson_equal_scipy() -> None:
    interval = two_proportions(ProportionStatistic(1000, 100), ProportionStatistic(900, 130), alpha=0.05)
    assert isinstance(interval, Interval)
    expected = stats.chi2_contingency([[100, 900], [130, 770]], correction=False)
    assert interval.p_value == pytest.approx(expected.pvalue)
    wilson = stats.binomtest(7, 60).proportion_ci(0.9, method="wilson")
    assert wilson_bounds(ProportionStatistic(60, 7), 0.1) == pytest.approx((wilson.low, wilson.high))
    assert wilson_bounds(ProportionStatistic(60, 0), 0.1)[0] == pytest.approx(0.0, abs=1e-12)


def test_they_say_why_they_cannot_say() -> None:
    few = welch(MeanStatistic.of([1.0, 2.0]), MeanStatistic.of([1.0] * 20), alpha=0.05)
    flat = welch(MeanStatistic.of([0.1] * 20), MeanStatistic.of([0.3] * 20), alpha=0.05)
    never = two_proportions(ProportionStatistic(50, 0), ProportionStatistic(50, 0), alpha=0.05)
    none = two_proportions(ProportionStatistic(), ProportionStatistic(50, 1), alpha=0.05)
    reasons = [finding.reason for finding in (few, flat, never, none) if isinstance(finding, CannotSay)]
    assert reasons == ["too_few_units", "zero_variance", "zero_variance", "too_few_units"]
