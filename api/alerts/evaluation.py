"""An expression at a moment, over a window of samples: what Prometheus would answer from the same samples.

Formulas are those of Prometheus 2.42 (`promql/functions.go`, `promql/quantile.go`): rates extrapolate to the
edges of the range, a quantile is interpolated within its bucket. The rules' tests hold both to the same
figures, by promtool and here. (Prometheus 3 leaves out a sample exactly at a range's beginning.)
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Final

from api.alerts.promql import (
    COMPARISONS,
    SETS,
    Aggregate,
    Binary,
    Call,
    Matcher,
    Node,
    Number,
    QueryError,
    Selector,
)
from api.alerts.series import LOOKBACK_S, Labels, SeriesWindow

Vector = dict[Labels, float]
Point = tuple[float, float]


def _divide(a: float, b: float) -> float:
    if b:
        return a / b
    return math.nan if a == 0 or math.isnan(a) else math.copysign(math.inf, a)


_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    "==": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}
_CALCULATE: Final[Mapping[str, Callable[[float, float], float]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
}
_AGGREGATE: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {"sum": sum, "min": min, "max": max}


def evaluate(node: Node, window: SeriesWindow, time_s: float) -> Vector:
    """Labels → value. A scalar at the top is one element without labels."""
    value = _evaluate(node, window, time_s)
    return {frozenset(): value} if isinstance(value, float) else value


def _evaluate(node: Node, window: SeriesWindow, time_s: float) -> Vector | float:
    match node:
        case Number(value):
            return value
        case Selector(range_s=None):
            return _present(node, window, time_s)
        case Selector():
            raise QueryError(f"{node.name} with a range stands where a present value is expected")
        case Aggregate(function, by, inner):
            return _aggregate(_AGGREGATE[function], by, evaluate(inner, window, time_s))
        case Call("vector", (Number(value),)):
            return {frozenset(): value}
        case Call("histogram_quantile", (Number(quantile), inner)):
            return _quantiles(quantile, evaluate(inner, window, time_s))
        case Call(function, (Selector() as selector,)):
            return _over_range(_RANGES[function], selector, window, time_s)
        case Binary(operator, left, right):
            return _binary(operator, _evaluate(left, window, time_s), _evaluate(right, window, time_s))
        case _:
            raise QueryError(f"{node} cannot be evaluated")


def _wanted(matchers: Sequence[Matcher]) -> Callable[[Mapping[str, str]], bool]:
    return lambda labels: all(matcher.matches(labels) for matcher in matchers)


def _present(selector: Selector, window: SeriesWindow, time_s: float) -> Vector:
    values: Vector = {}
    for labels, samples in window.select(selector.name, _wanted(selector.matchers)):
        latest = next((sample for sample in reversed(samples) if sample.time_s <= time_s), None)
        if latest is not None and latest.value is not None and latest.time_s >= time_s - LOOKBACK_S:
            values[frozenset(labels.items())] = latest.value
    return values


def _over_range(
    function: Callable[[Sequence[Point], float, float], float | None],
    selector: Selector,
    window: SeriesWindow,
    time_s: float,
) -> Vector:
    range_s = selector.range_s or 0.0
    values: Vector = {}
    for labels, samples in window.select(selector.name, _wanted(selector.matchers)):
        points = [
            (sample.time_s, sample.value)
            for sample in samples
            if sample.value is not None and time_s - range_s <= sample.time_s <= time_s
        ]
        value = function(points, range_s, time_s) if points else None
        if value is not None:
            values[frozenset(labels.items())] = value
    return values


def _increase(points: Sequence[Point], range_s: float, time_s: float) -> float | None:
    """Growth of a counter over the range; a fall is a restart from 0. Prometheus' extrapolatedRate."""
    if len(points) < 2:
        return None
    (first_s, first), (last_s, last) = points[0], points[-1]
    grown = last - first
    for (_, before), (_, after) in pairwise(points):
        if after < before:
            grown += before
    sampled_s = last_s - first_s
    between_s = sampled_s / (len(points) - 1)
    to_start_s, to_end_s = first_s - (time_s - range_s), time_s - last_s
    if grown > 0 and first >= 0:
        # a counter cannot have begun below 0
        to_start_s = min(to_start_s, sampled_s * (first / grown))
    limit_s = between_s * 1.1
    covered_s = sampled_s + sum(gap if gap < limit_s else between_s / 2 for gap in (to_start_s, to_end_s))
    return grown * (covered_s / sampled_s)


def _rate(points: Sequence[Point], range_s: float, time_s: float) -> float | None:
    grown = _increase(points, range_s, time_s)
    return None if grown is None else grown / range_s


def _changes(points: Sequence[Point], _range_s: float, _time_s: float) -> float:
    return float(sum(a != b for (_, a), (_, b) in pairwise(points)))


def _minimum(points: Sequence[Point], _range_s: float, _time_s: float) -> float:
    return min(value for _, value in points)


def _slope(points: Sequence[Point], _range_s: float, time_s: float) -> float | None:
    """Least-squares slope a second."""
    if len(points) < 2:
        return None
    mean_s = sum(at - time_s for at, _ in points) / len(points)
    mean = sum(value for _, value in points) / len(points)
    spread = sum((at - time_s - mean_s) ** 2 for at, _ in points)
    return sum((at - time_s - mean_s) * (value - mean) for at, value in points) / spread if spread else None


_RANGES: Final[Mapping[str, Callable[[Sequence[Point], float, float], float | None]]] = {
    "rate": _rate,
    "increase": _increase,
    "changes": _changes,
    "min_over_time": _minimum,
    "deriv": _slope,
}


def _aggregate(function: Callable[[Sequence[float]], float], by: Sequence[str], vector: Vector) -> Vector:
    groups: dict[Labels, list[float]] = {}
    for labels, value in vector.items():
        groups.setdefault(frozenset(pair for pair in labels if pair[0] in by), []).append(value)
    return {labels: float(function(values)) for labels, values in groups.items()}


def _quantiles(quantile: float, buckets: Vector) -> Vector:
    histograms: dict[Labels, list[Point]] = {}
    for labels, count in buckets.items():
        named = dict(labels)
        bound = named.pop("le", None)
        if bound is not None:
            histograms.setdefault(frozenset(named.items()), []).append((float(bound), count))
    return {labels: _quantile(quantile, sorted(points)) for labels, points in histograms.items()}


def _quantile(quantile: float, buckets: Sequence[Point]) -> float:
    """Within the bucket that holds the rank, linear; above the last finite bound, that bound."""
    if len(buckets) < 2 or buckets[-1][0] != math.inf or not buckets[-1][1] > 0:
        return math.nan
    counts: list[float] = []
    for _, count in buckets:  # rates of single buckets may differ in their last digits
        counts.append(max(count, counts[-1] if counts else count))
    rank = quantile * counts[-1]
    index = next(i for i, count in enumerate(counts) if count >= rank or i == len(counts) - 1)
    if index == len(counts) - 1:
        return buckets[-2][0]
    upper = buckets[index][0]
    if index == 0:
        return upper if upper <= 0 else upper * rank / counts[0]
    lower, below = buckets[index - 1][0], counts[index - 1]
    return lower + (upper - lower) * (rank - below) / (counts[index] - below)


def _binary(operator: str, left: Vector | float, right: Vector | float) -> Vector | float:
    if operator in SETS:
        return _combine(operator, left, right)
    if isinstance(left, float) and isinstance(right, float):
        if operator in COMPARISONS:
            raise QueryError("two numbers cannot be compared: there is nothing to filter")
        return _CALCULATE[operator](left, right)
    pairs = _paired(left, right)
    if operator in COMPARISONS:
        holds = _COMPARE[operator]
        # what stays is the vector's side, with its value
        keep_right = isinstance(left, float)
        return {labels: b if keep_right else a for labels, (a, b) in pairs.items() if holds(a, b)}
    calculate = _CALCULATE[operator]
    return {labels: calculate(a, b) for labels, (a, b) in pairs.items()}


def _paired(left: Vector | float, right: Vector | float) -> dict[Labels, tuple[float, float]]:
    if isinstance(left, float):
        assert not isinstance(right, float)
        return {labels: (left, value) for labels, value in right.items()}
    if isinstance(right, float):
        return {labels: (value, right) for labels, value in left.items()}
    return {labels: (value, right[labels]) for labels, value in left.items() if labels in right}


def _combine(operator: str, left: Vector | float, right: Vector | float) -> Vector:
    if isinstance(left, float) or isinstance(right, float):
        raise QueryError(f"{operator} stands between vectors; write vector(number)")
    match operator:
        case "and":
            return {labels: value for labels, value in left.items() if labels in right}
        case "unless":
            return {labels: value for labels, value in left.items() if labels not in right}
        case _:
            return {**right, **left}
