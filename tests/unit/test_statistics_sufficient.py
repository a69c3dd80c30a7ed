"""Means and variances against numpy, and the cases that sums get wrong."""

import numpy as np
import pytest

from learners.statistics.sufficient import (
    MeanStatistic,
    PairedStatistic,
    ProportionStatistic,
    RatioStatistic,
    Sample,
)


def test_moments_equal_numpy() -> None:
    rng = np.random.default_rng(1)
    first, second = rng.normal(3.0, 2.0, 50), rng.normal(1.0, 0.5, 50)
    mean, pairs = MeanStatistic.of(first), PairedStatistic.of(first, second)
    assert (mean.mean, mean.variance) == pytest.approx((first.mean(), first.var(ddof=1)))
    assert pairs.covariance == pytest.approx(np.cov(first, second)[0, 1])
    assert pairs.difference().variance == pytest.approx((second - first).var(ddof=1))
    assert pairs.second == MeanStatistic.of(second)


def test_a_ratio_has_the_variance_of_its_linearisation() -> None:
    rng = np.random.default_rng(2)
    queries = rng.integers(1, 20, 300).astype(float)
    clicks = rng.binomial(queries.astype(int), 0.3).astype(float)
    ratio = RatioStatistic.of(clicks, queries)
    influence = (clicks - ratio.mean * queries) / queries.mean()
    assert ratio.variance == pytest.approx(influence.var(ddof=1))
    assert ratio.mean == pytest.approx(clicks.sum() / queries.sum())


def test_the_variance_of_a_ratio_is_that_of_its_repetition() -> None:
    rng = np.random.default_rng(4)
    queries = rng.integers(1, 20, (4000, 100)).astype(float)
    clicks = rng.binomial(queries.astype(int), 0.3).astype(float)
    ratios = [RatioStatistic.of(c, q) for c, q in zip(clicks, queries, strict=True)]
    observed = np.var([ratio.mean for ratio in ratios])
    assert np.mean([ratio.variance / ratio.n for ratio in ratios]) == pytest.approx(observed, rel=0.08)


def test_equal_values_have_exactly_no_variance() -> None:
    assert MeanStatistic.of([0.1] * 1000).variance == 0.0
    assert MeanStatistic.of([1e8 + 0.1] * 1000).variance == 0.0
    assert RatioStatistic.of(np.arange(1.0, 100.0) * 0.1, np.arange(1.0, 100.0)).variance == 0.0


def test_small_spread_around_a_large_mean_is_still_seen() -> None:
    assert MeanStatistic.of([1000.0, 1000.001] * 500).variance == pytest.approx(2.5e-7, rel=0.01)


def test_a_proportion_is_a_mean_of_zeros_and_ones() -> None:
    share = ProportionStatistic.of([0, 1, 1, 0, 0])
    assert (share.mean, share.variance) == pytest.approx((0.4, 0.24))
    assert share.as_mean() == MeanStatistic.of([0, 1, 1, 0, 0])


@pytest.mark.parametrize("statistic", [MeanStatistic(), ProportionStatistic(), RatioStatistic()])
def test_nothing_has_no_mean(statistic: Sample) -> None:
    assert not statistic.measurable
    with pytest.raises(ValueError, match="undefined"):
        _ = statistic.mean


@pytest.mark.parametrize("values", [[1.0, float("nan")], [float("inf")], [[1.0], [2.0]]])
def test_values_must_be_finite_and_flat(values: object) -> None:
    with pytest.raises(ValueError, match="values must be"):
        MeanStatistic.of(values)


def test_wrong_counts_and_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="zeros and ones"):
        ProportionStatistic.of([0, 2])
    with pytest.raises(ValueError, match="between 0 and n = 3"):
        ProportionStatistic(3, 4)
    with pytest.raises(ValueError, match="3 first and 2 second"):
        PairedStatistic.of([1, 2, 3], [1, 2])
