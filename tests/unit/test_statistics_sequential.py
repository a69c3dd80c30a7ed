"""The always-valid interval: known numbers, refusals, and what it does with unequal arms."""

import math
from typing import NamedTuple

import msgspec
import pytest

from learners.statistics.findings import CannotSay, Interval
from learners.statistics.sequential import always_valid_interval, tune_rho_squared
from learners.statistics.sufficient import (
    MeanStatistic,
    PairedStatistic,
    ProportionStatistic,
    RatioStatistic,
    Sample,
)

SHARES = (ProportionStatistic(1000, 100), ProportionStatistic(1000, 130))
MEANS = (MeanStatistic(500, 1000.0, 4000.0), MeanStatistic(500, 1200.0, 5200.0))
RATIOS = (
    RatioStatistic(PairedStatistic(400, 900.0, 2000.0, 3300.0, 12000.0, 5600.0)),
    RatioStatistic(PairedStatistic(400, 1100.0, 2100.0, 4300.0, 13000.0, 6500.0)),
)


class Recorded(NamedTuple):
    """What gbstats 0.8.0 (PyPI) answered: SequentialTwoSidedTTest, sequential_tuning_parameter = tuning_n."""

    arms: tuple[Sample, Sample]
    measures: str
    tuning_n: float
    alpha: float
    estimate: float
    low: float
    high: float
    p_value: float


RECORDED = [
    Recorded(
        SHARES, "difference", 5000, 0.05, 0.03, -0.014517962102267787, 0.07451796210226778, 0.3789315076
    ),
    Recorded(
        SHARES, "relative_difference", 5000, 0.05, 0.3, -0.20870625018, 0.8087062501839868, 0.5622208729
    ),
    Recorded(
        (ProportionStatistic(4000, 400), ProportionStatistic(4000, 520)),
        "difference",
        2000,
        0.01,
        0.03,
        0.003967922115373841,
        0.05603207788462616,
        0.0011731122021,
    ),
    Recorded(MEANS, "difference", 1000, 0.05, 0.4, 0.0006118285493464937, 0.7993881714506533, 0.04937676351),
    Recorded(MEANS, "relative_difference", 1000, 0.05, 0.2, -0.01909123382, 0.4190912338201, 0.09887825014),
    Recorded(
        RATIOS, "difference", 1000, 0.05, 0.0738095238, 0.0119994215394, 0.1356196260797, 0.009126478867
    ),
    Recorded(
        RATIOS, "relative_difference", 1000, 0.05, 0.164021164, 0.01681858068, 0.311223747, 0.019057447365
    ),
]


@pytest.mark.parametrize("recorded", RECORDED)
def test_equal_arms_without_stabiliser_give_what_gbstats_gives(recorded: Recorded) -> None:
    interval = always_valid_interval(
        *recorded.arms,
        alpha=recorded.alpha,
        tuning_n=recorded.tuning_n,
        measures="difference" if recorded.measures == "difference" else "relative_difference",
        stabiliser_units=0,
    )
    assert isinstance(interval, Interval)
    assert interval.horizon == "always"
    assert interval.resampled is None
    assert (interval.estimate, interval.low, interval.high) == pytest.approx(
        (recorded.estimate, recorded.low, recorded.high), rel=1e-8
    )
    assert interval.p_value == pytest.approx(recorded.p_value, rel=1e-8)


def test_stabiliser_widens_and_fades_with_units() -> None:
    def widening(n: int) -> float:
        control, treatment = ProportionStatistic(n, n // 10), ProportionStatistic(n, n // 5)
        plain, stable = (
            always_valid_interval(control, treatment, alpha=0.05, tuning_n=1000, stabiliser_units=units)
            for units in (0.0, 50.0)
        )
        assert isinstance(plain, Interval)
        assert isinstance(stable, Interval)
        return (stable.high - stable.low) / (plain.high - plain.low)

    assert 1.0 < widening(10_000) < 1.001 < widening(100) < 1.1


def test_tuning_makes_the_interval_tightest_near_its_n() -> None:
    def half_width(n: int, tuning_n: float) -> float:
        arm = MeanStatistic(n // 2, 0.0, float(n // 2 - 1))  # variance 1
        interval = always_valid_interval(arm, arm, alpha=0.05, tuning_n=tuning_n)
        assert isinstance(interval, Interval)
        return interval.high

    assert min((500, 2000, 8000), key=lambda tuning_n: half_width(2000, tuning_n)) == 2000
    assert min((500, 2000, 8000), key=lambda tuning_n: half_width(8000, tuning_n)) == 8000


def test_rho_is_the_papers() -> None:
    # n rho^2 at alpha = .05 is 2 * 2.9957 + log(6.9915).
    assert tune_rho_squared(1.0, 0.05) == pytest.approx(5.99146 + math.log(6.99146), rel=1e-5)


def test_unequal_arms_count_as_the_equal_experiment_with_the_same_information() -> None:
    # 1/n_c + 1/n_t is the same: 900 + 100 units tell as much as 180 + 180 do.
    def arm(n: int) -> MeanStatistic:
        return MeanStatistic(n, 0.0, float(n - 1))  # variance 1

    unequal = always_valid_interval(arm(900), arm(100), alpha=0.05, tuning_n=500)
    equal = always_valid_interval(arm(180), arm(180), alpha=0.05, tuning_n=500)
    assert isinstance(unequal, Interval)
    assert isinstance(equal, Interval)
    assert unequal.high == pytest.approx(equal.high)
    assert unequal.n == 1000


def test_p_value_is_below_alpha_exactly_where_the_interval_excludes_zero() -> None:
    for successes in range(100, 180):
        interval = always_valid_interval(
            ProportionStatistic(1000, 100), ProportionStatistic(800, successes), alpha=0.05, tuning_n=2000
        )
        assert isinstance(interval, Interval)
        assert interval.p_value is not None
        assert (interval.p_value < 0.05) == (interval.above() or interval.below())


@pytest.mark.parametrize(
    ("control", "treatment", "reason"),
    [
        (MeanStatistic(), MeanStatistic(), "too_few_units"),
        (MeanStatistic.of([0.0, 1.0] * 500), MeanStatistic.of([0.0, 1.0] * 49), "too_few_units"),
        (MeanStatistic.of([0.1] * 500), MeanStatistic.of([0.1] * 500), "zero_variance"),
        (ProportionStatistic(500, 0), ProportionStatistic(500, 500), "zero_variance"),
        (
            RatioStatistic.of([0.0] * 200, [0.0] * 200),
            RatioStatistic.of([1.0] * 200, [2.0] * 200),
            "undefined_ratio",
        ),
    ],
)
def test_it_says_why_it_cannot_say(control: Sample, treatment: Sample, reason: str) -> None:
    finding = always_valid_interval(control, treatment, alpha=0.05, tuning_n=1000)
    assert isinstance(finding, CannotSay)
    assert finding.reason == reason


def test_an_arm_that_never_varied_borrows_the_pooled_variance() -> None:
    finding = always_valid_interval(
        ProportionStatistic(500, 0), ProportionStatistic(500, 100), alpha=0.05, tuning_n=1000
    )
    assert isinstance(finding, Interval)
    assert finding.above()


def test_a_relative_difference_needs_a_control_mean_away_from_zero() -> None:
    noise = MeanStatistic.of([-1.0, 1.0] * 200)
    finding = always_valid_interval(
        noise, MeanStatistic.of([0.0, 2.0] * 200), alpha=0.05, tuning_n=1000, measures="relative_difference"
    )
    assert isinstance(finding, CannotSay)
    assert finding.reason == "control_mean_near_zero"


@pytest.mark.parametrize(("alpha", "tuning_n"), [(0.0, 100.0), (1.0, 100.0), (0.05, 0.0), (0.05, -1.0)])
def test_wrong_settings_are_errors_and_not_findings(alpha: float, tuning_n: float) -> None:
    with pytest.raises(ValueError, match="must"):
        always_valid_interval(*SHARES, alpha=alpha, tuning_n=tuning_n)


def test_findings_survive_json() -> None:
    for finding in (
        always_valid_interval(*SHARES, alpha=0.05, tuning_n=1000),
        always_valid_interval(MeanStatistic(), MeanStatistic(), alpha=0.05, tuning_n=1000),
    ):
        assert msgspec.json.decode(msgspec.json.encode(finding), type=Interval | CannotSay) == finding


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.3), (-math.inf, 1.0), (math.nan, 1.0)])
def test_an_interval_holds_its_estimate_and_is_finite(low: float, high: float) -> None:
    with pytest.raises(ValueError, match=r"finite|outside"):
        Interval(
            estimate=0.1,
            low=low,
            high=high,
            alpha=0.05,
            horizon="fixed",
            measures="difference",
            method="",
            n=1,
        )
