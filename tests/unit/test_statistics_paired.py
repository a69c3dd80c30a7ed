"""Champion against challenger: groups are what is drawn, and equal is not the same as no worse."""

import msgspec
import numpy as np
import pytest

from learners.statistics.findings import CannotSay, Interval
from learners.statistics.paired import NonInferiority, no_worse, paired_difference


def generator() -> np.random.Generator:
    return np.random.default_rng(7)


def test_the_estimate_is_the_mean_over_questions() -> None:
    rng = np.random.default_rng(1)
    champion, challenger = rng.random(200), rng.random(200)
    interval = paired_difference(champion, challenger, np.arange(200) // 4, alpha=0.05, rng=generator())
    assert isinstance(interval, Interval)
    assert interval.estimate == pytest.approx((challenger - champion).mean())
    assert (interval.resampled, interval.counted, interval.n) == ("question group", "question group", 50)
    assert interval.horizon == "fixed"


def test_questions_of_a_group_are_not_counted_as_many() -> None:
    per_group = np.random.default_rng(2).normal(0.02, 0.1, 60)
    champion = np.zeros(60)
    once = paired_difference(champion, per_group, np.arange(60), alpha=0.05, rng=generator())
    repeated = paired_difference(
        np.zeros(600), np.repeat(per_group, 10), np.repeat(np.arange(60), 10), alpha=0.05, rng=generator()
    )
    assert isinstance(once, Interval)
    assert isinstance(repeated, Interval)
    assert (repeated.low, repeated.high) == pytest.approx((once.low, once.high))


def test_the_same_generator_gives_the_same_interval_for_any_labels() -> None:
    rng = np.random.default_rng(3)
    champion, challenger, groups = rng.random(120), rng.random(120), rng.integers(0, 50, 120)
    names = [f"g{group:03d}" for group in groups]
    first = paired_difference(champion, challenger, groups, alpha=0.1, rng=generator())
    assert first == paired_difference(champion, challenger, names, alpha=0.1, rng=generator())


def test_a_margin_separates_no_worse_from_cannot_tell() -> None:
    rng = np.random.default_rng(4)
    challenger = rng.normal(0.0, 0.05, 400)
    strict = no_worse(np.zeros(400), challenger, np.arange(400), margin=0.0, alpha=0.05, rng=generator())
    lenient = no_worse(np.zeros(400), challenger, np.arange(400), margin=0.02, alpha=0.05, rng=generator())
    assert isinstance(strict, NonInferiority)
    assert isinstance(lenient, NonInferiority)
    assert strict.bound == lenient.bound
    assert (strict.no_worse, lenient.no_worse) == (False, True)
    assert lenient.interval.low < lenient.bound < lenient.interval.estimate
    assert msgspec.json.decode(msgspec.json.encode(lenient), type=NonInferiority) == lenient


def test_a_small_alpha_asks_for_a_farther_bound() -> None:
    challenger = np.random.default_rng(5).normal(0.0, 0.05, 100)
    bounds = []
    for alpha in (0.05, 0.001):
        verdict = no_worse(
            np.zeros(100), challenger, np.arange(100), margin=0.1, alpha=alpha, rng=generator()
        )
        assert isinstance(verdict, NonInferiority)
        bounds.append(verdict.bound)
    assert bounds[1] < bounds[0]


@pytest.mark.parametrize(
    ("challenger", "groups", "reason"),
    [
        (np.linspace(0, 1, 29), np.arange(29), "too_few_groups"),
        (np.linspace(0, 1, 300), np.arange(300) // 20, "too_few_groups"),
        (np.zeros(100), np.arange(100), "too_few_groups"),
        (np.repeat([0.0, 1.0], [90, 10]), np.arange(100), "too_few_groups"),
        (np.full(100, 0.1), np.arange(100), "zero_variance"),
        (np.zeros(0), np.zeros(0), "too_few_groups"),
    ],
)
def test_it_says_why_it_cannot_say(
    challenger: np.ndarray[tuple[int], np.dtype[np.float64]],
    groups: np.ndarray[tuple[int], np.dtype[np.float64]],
    reason: str,
) -> None:
    champion = np.zeros(challenger.size)
    difference = paired_difference(champion, challenger, groups, alpha=0.05, rng=generator())
    verdict = no_worse(champion, challenger, groups, margin=0.1, alpha=0.05, rng=generator())
    assert isinstance(difference, CannotSay)
    assert difference == verdict
    assert difference.reason == reason


def test_wrong_arguments_are_errors() -> None:
    with pytest.raises(ValueError, match="group of each question"):
        paired_difference([0.1, 0.2], [0.1, 0.2], [1], alpha=0.05, rng=generator())
    with pytest.raises(ValueError, match="finite"):
        paired_difference([0.1, float("nan")], [0.1, 0.2], [1, 2], alpha=0.05, rng=generator())
    with pytest.raises(ValueError, match="margin"):
        no_worse([0.1], [0.1], [1], margin=-0.1, alpha=0.05, rng=generator())
