"""Sufficient statistics are monoids: identity, associativity, and any split equals the whole."""

import itertools

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.statistics.sufficient import (
    MeanStatistic,
    PairedStatistic,
    ProportionStatistic,
    RatioStatistic,
)

Statistic = MeanStatistic | ProportionStatistic | PairedStatistic | RatioStatistic
KINDS: list[type[Statistic]] = [MeanStatistic, ProportionStatistic, PairedStatistic, RatioStatistic]

#: Whole numbers: their sums are exact, so that equality is exact, too.
UNITS = st.lists(st.tuples(st.integers(-1000, 1000), st.integers(0, 1000)), max_size=40)


def summarise(kind: type[Statistic], units: list[tuple[int, int]]) -> Statistic:
    first, second = [float(a) for a, _ in units], [float(b) for _, b in units]
    if kind is ProportionStatistic:
        return ProportionStatistic.of([value > 0 for value in first])
    if kind is MeanStatistic:
        return MeanStatistic.of(first)
    return RatioStatistic.of(first, second) if kind is RatioStatistic else PairedStatistic.of(first, second)


def add(a: Statistic, b: Statistic) -> Statistic:
    return a + b  # type: ignore[operator]


@pytest.mark.parametrize("kind", KINDS)
@given(a=UNITS, b=UNITS, c=UNITS)
def test_addition_is_associative(
    kind: type[Statistic], a: list[tuple[int, int]], b: list[tuple[int, int]], c: list[tuple[int, int]]
) -> None:
    x, y, z = (summarise(kind, units) for units in (a, b, c))
    assert add(add(x, y), z) == add(x, add(y, z))


@pytest.mark.parametrize("kind", KINDS)
@given(units=UNITS)
def test_the_empty_statistic_is_the_identity(kind: type[Statistic], units: list[tuple[int, int]]) -> None:
    statistic = summarise(kind, units)
    assert add(kind(), statistic) == statistic == add(statistic, kind())
    assert summarise(kind, []) == kind()


@pytest.mark.parametrize("kind", KINDS)
@given(units=UNITS, cuts=st.lists(st.integers(0, 40), max_size=5))
def test_any_split_equals_the_whole(
    kind: type[Statistic], units: list[tuple[int, int]], cuts: list[int]
) -> None:
    edges = [0, *sorted(min(cut, len(units)) for cut in cuts), len(units)]
    total: Statistic = kind()
    for start, end in itertools.pairwise(edges):
        total = add(total, summarise(kind, units[start:end]))
    assert total == summarise(kind, units)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30),
    cut=st.integers(0, 30),
)
def test_splits_of_real_values_agree_up_to_rounding(values: list[float], cut: int) -> None:
    whole = MeanStatistic.of(values)
    split = MeanStatistic.of(values[:cut]) + MeanStatistic.of(values[cut:])
    assert split.n == whole.n
    assert split.sum == pytest.approx(whole.sum, rel=1e-9, abs=1e-6)
    assert split.sum_squares == pytest.approx(whole.sum_squares, rel=1e-9)
    assert whole.variance >= 0.0
    assert split.variance == pytest.approx(whole.variance, rel=1e-6, abs=1e-2)


def test_statistics_cannot_be_changed() -> None:
    statistic = MeanStatistic(1, 2.0, 4.0)
    with pytest.raises(AttributeError, match="immutable"):
        statistic.n = 2  # type: ignore[misc]
    assert msgspec.json.decode(msgspec.json.encode(statistic), type=MeanStatistic) == statistic
