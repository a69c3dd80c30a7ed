"""Simulations that prove the error rates: what is promised with alpha happens at most alpha of the time.

Bounds allow three standard errors of the simulation itself; seeds are fixed.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from learners.statistics.betting import BettingProcess, start_betting
from learners.statistics.findings import Interval
from learners.statistics.fixed import two_proportions, welch
from learners.statistics.paired import NonInferiority, no_worse, paired_difference
from learners.statistics.sample_ratio import SampleRatio, check_sample_ratio
from learners.statistics.sequential import always_valid_interval
from learners.statistics.sufficient import MeanStatistic, ProportionStatistic, RatioStatistic

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Values]

ALPHA = 0.05
UNITS = 3000
LOOKS = [*range(200, 1000, 20), *range(1000, UNITS + 1, 100)]


def at_most(rate: float, runs: int) -> float:
    return rate + 3.0 * math.sqrt(rate * (1.0 - rate) / runs)


def sometimes(rate: float) -> Draw:
    return lambda rng, n: (rng.random(n) < rate).astype(np.float64)


DRAWS: dict[str, Draw] = {
    "half": sometimes(0.5),
    "rare": sometimes(0.03),
    "skewed": lambda rng, n: rng.lognormal(0.0, 1.0, n),
}
SHARES: dict[str, Values] = {
    "equal": np.full(UNITS, 0.5),
    "tenth": np.full(UNITS, 0.1),
    "ramp": np.repeat([0.05, 0.2, 0.5], UNITS // 3),
}


def peek(
    values: Values, treated: NDArray[np.bool_], looks: list[int]
) -> list[tuple[MeanStatistic, MeanStatistic]]:
    """(control, treatment) after the first n units, for each look."""
    pairs = []
    for n in looks:
        seen, arm = values[:n], treated[:n]
        pairs.append((MeanStatistic.of(seen[~arm]), MeanStatistic.of(seen[arm])))
    return pairs


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("share", SHARES)
def test_continuous_peeking_errs_at_most_alpha(draw: str, share: str) -> None:
    rng, runs, errors = np.random.default_rng(1), 400, 0
    for _ in range(runs):
        values, treated = DRAWS[draw](rng, UNITS), rng.random(UNITS) < SHARES[share]
        findings = [
            always_valid_interval(*arms, alpha=ALPHA, tuning_n=1000) for arms in peek(values, treated, LOOKS)
        ]
        assert isinstance(findings[-1], Interval)
        errors += any(isinstance(f, Interval) and (f.above() or f.below()) for f in findings)
    assert errors / runs <= at_most(ALPHA, runs)


def test_small_arms_of_skewed_values_are_why_variances_are_stabilised() -> None:
    looks = list(range(300, UNITS + 1, 20))

    def error_rate(stabiliser_units: float) -> float:
        rng, runs, errors = np.random.default_rng(1), 300, 0
        for _ in range(runs):
            arms = peek(DRAWS["skewed"](rng, UNITS), rng.random(UNITS) < SHARES["ramp"], looks)
            findings = [
                always_valid_interval(
                    *pair, alpha=ALPHA, tuning_n=1000, minimum_units=30, stabiliser_units=stabiliser_units
                )
                for pair in arms
            ]
            errors += any(isinstance(f, Interval) and (f.above() or f.below()) for f in findings)
        return errors / runs

    assert error_rate(0.0) > 0.08
    assert error_rate(50.0) <= ALPHA


def test_peeking_at_welch_errs_far_more_often() -> None:
    """The simulation can tell a valid interval from one that is not: why Welch never decides."""
    rng, runs, errors = np.random.default_rng(2), 200, 0
    for _ in range(runs):
        arms = peek(rng.normal(size=UNITS), rng.random(UNITS) < 0.5, LOOKS)
        findings = [welch(*pair, alpha=ALPHA) for pair in arms]
        errors += any(isinstance(f, Interval) and (f.above() or f.below()) for f in findings)
    assert errors / runs > 0.15


def test_units_that_return_do_not_break_the_promise() -> None:
    """A unit's sums grow after it was first counted; sums per query, units counted."""
    rng, runs, errors, people, queries = np.random.default_rng(3), 200, 0, 500, 5000
    for _ in range(runs):
        habit, treated = rng.beta(0.6, 1.4, people), rng.random(people) < 0.5
        who = rng.integers(0, people, queries)
        clicked = rng.random(queries) < habit[who]
        wrong = False
        for n in range(400, queries + 1, 100):
            asked = np.bincount(who[:n], minlength=people).astype(np.float64)
            clicks = np.bincount(who[:n], weights=clicked[:n], minlength=people)
            control, treatment = (
                RatioStatistic.of(clicks[arm & (asked > 0)], asked[arm & (asked > 0)])
                for arm in (~treated, treated)
            )
            finding = always_valid_interval(control, treatment, alpha=ALPHA, tuning_n=500)
            wrong |= isinstance(finding, Interval) and (finding.above() or finding.below())
        errors += wrong
    assert errors / runs <= at_most(ALPHA, runs)


def test_the_relative_interval_covers_a_real_effect_at_every_look() -> None:
    rng, runs, misses = np.random.default_rng(4), 300, 0
    for _ in range(runs):
        treated = rng.random(UNITS) < 0.3
        values = (rng.random(UNITS) < np.where(treated, 0.24, 0.2)).astype(np.float64)
        findings = [
            always_valid_interval(*arms, alpha=ALPHA, tuning_n=1000, measures="relative_difference")
            for arms in peek(values, treated, LOOKS)
        ]
        misses += any(isinstance(f, Interval) and not f.low <= 0.2 <= f.high for f in findings)
    assert misses / runs <= at_most(ALPHA, runs)


def test_an_effect_is_found_at_a_bounded_cost_over_one_planned_look() -> None:
    """Share .2 against .3: a fixed look with 80 % power wants 2 * 293 units.

    Measured with this seed: half of the streams stop by 700 units, 80 % by 1,200, all by 3,000.
    """
    rng, runs, looks = np.random.default_rng(5), 200, list(range(200, UNITS + 1, 50))
    stopped = []
    for _ in range(runs):
        treated = rng.random(UNITS) < 0.5
        values = (rng.random(UNITS) < np.where(treated, 0.3, 0.2)).astype(np.float64)
        for n, arms in zip(looks, peek(values, treated, looks), strict=True):
            finding = always_valid_interval(*arms, alpha=ALPHA, tuning_n=800)
            if isinstance(finding, Interval) and finding.above():
                stopped.append(n)
                break
    assert len(stopped) / runs > 0.95
    assert np.quantile(stopped, 0.5) < 1.5 * 2 * 293
    assert np.quantile(stopped, 0.8) < 2.5 * 2 * 293


def test_fixed_intervals_cover_as_promised() -> None:
    rng, runs, covered_means, covered_shares = np.random.default_rng(6), 2000, 0, 0
    for _ in range(runs):
        means = welch(
            MeanStatistic.of(rng.normal(0.0, 1.0, 40)),
            MeanStatistic.of(rng.normal(0.5, 3.0, 25)),
            alpha=ALPHA,
        )
        shares = two_proportions(
            ProportionStatistic(80, int(rng.binomial(80, 0.1))),
            ProportionStatistic(60, int(rng.binomial(60, 0.25))),
            alpha=ALPHA,
        )
        covered_means += isinstance(means, Interval) and means.low <= 0.5 <= means.high
        covered_shares += isinstance(shares, Interval) and shares.low <= 0.15 <= shares.high
    for covered in (covered_means, covered_shares):
        assert covered / runs == pytest.approx(1.0 - ALPHA, abs=0.015)


def challenge(rng: np.random.Generator, groups: int, shift: float) -> tuple[Values, NDArray[np.int64]]:
    """Differences per question and their groups: half of the groups move, questions of a group together."""
    label = np.repeat(np.arange(groups), rng.geometric(0.5, groups))
    moved = np.where(rng.random(groups) < 0.5, 0.0, rng.normal(0.0, 0.25, groups))
    return moved[label] + rng.normal(0.0, 0.05, label.size) + shift, label


@pytest.mark.parametrize("groups", [40, 150])
def test_a_challenger_worse_by_the_margin_passes_at_most_alpha(groups: int) -> None:
    rng, runs, passed, missed = np.random.default_rng(7), 600, 0, 0
    for _ in range(runs):
        difference, label = challenge(rng, groups, shift=-0.02)
        champion = np.zeros(label.size)
        verdict = no_worse(champion, difference, label, margin=0.02, alpha=ALPHA, rng=rng, resamples=400)
        interval = paired_difference(champion, difference, label, alpha=ALPHA, rng=rng, resamples=400)
        assert isinstance(verdict, NonInferiority)
        assert isinstance(interval, Interval)
        passed += verdict.no_worse
        missed += not interval.low <= -0.02 <= interval.high
    assert passed / runs <= at_most(ALPHA, runs)
    assert missed / runs <= at_most(ALPHA, runs)


def test_rare_total_losses_are_the_documented_limit() -> None:
    """4 % of the groups lose everything: beyond alpha, and bounded."""
    rng, runs, groups, passed = np.random.default_rng(3), 300, 100, 0
    rate_of_moved, rate_of_losses, gain, margin = 0.15, 0.25, 0.35, 0.02
    expected = rate_of_moved * (-rate_of_losses + (1.0 - rate_of_losses) * gain)
    for _ in range(runs):
        label = np.repeat(np.arange(groups), rng.geometric(0.5, groups))
        change = np.where(rng.random(groups) < rate_of_losses, -1.0, gain)
        moved = (rng.random(groups) < rate_of_moved) * change
        verdict = no_worse(
            np.zeros(label.size),
            moved[label] - expected - margin,
            label,
            margin=margin,
            alpha=ALPHA,
            rng=rng,
            resamples=400,
        )
        assert isinstance(verdict, NonInferiority)
        passed += verdict.no_worse
    assert ALPHA < passed / runs < 0.2


def test_a_better_challenger_passes() -> None:
    rng, runs, passed = np.random.default_rng(8), 100, 0
    for _ in range(runs):
        difference, label = challenge(rng, 150, shift=0.05)
        verdict = no_worse(
            np.zeros(label.size), difference, label, margin=0.01, alpha=ALPHA, rng=rng, resamples=400
        )
        passed += isinstance(verdict, NonInferiority) and verdict.no_worse
    assert passed / runs > 0.8


@pytest.mark.parametrize("rate", [0.05, 0.4])
@pytest.mark.parametrize("reference_rounds", [100, 1000])
def test_a_betting_process_alarms_at_most_alpha_without_a_rise(rate: float, reference_rounds: int) -> None:
    """Over reference and stream together: the reference is drawn anew each time."""
    rng, runs, alarms = np.random.default_rng(9), 500, 0
    for _ in range(runs):
        process = start_betting(int(rng.binomial(reference_rounds, rate)), reference_rounds, alpha=ALPHA)
        assert isinstance(process, BettingProcess)
        alarms += process.update(rng.random(4000) < rate).alarmed
    assert alarms / runs <= at_most(ALPHA, runs)


def test_a_known_rate_uses_its_alpha_and_not_more() -> None:
    rng, runs, alarms = np.random.default_rng(10), 1000, 0
    for _ in range(runs):
        alarms += BettingProcess(null_rate=0.1, alpha=0.2).update(rng.random(4000) < 0.1).alarmed
    assert 0.02 < alarms / runs <= at_most(0.2, runs)


def test_looking_at_the_shares_every_day_errs_at_most_alpha() -> None:
    rng, runs, errors = np.random.default_rng(11), 400, 0
    for _ in range(runs):
        treated = np.cumsum(rng.random(4000) < 0.1)
        checks = (
            check_sample_ratio(
                {"control": n - int(treated[n - 1]), "treatment": int(treated[n - 1])},
                {"control": 0.9, "treatment": 0.1},
                alpha=ALPHA,
            )
            for n in range(50, 4001, 50)
        )
        errors += any(isinstance(check, SampleRatio) and check.mismatch for check in checks)
    assert errors / runs <= at_most(ALPHA, runs)
