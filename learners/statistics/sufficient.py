"""Sufficient statistics: all that the tests need to know of an arm, as monoids.

Each type is frozen, has an identity (no arguments) and `+`; the statistic of a whole is the sum of the
statistics of any split of it (up to floating point). n counts *units*: sum a unit's events first, then
count the unit once.
"""

from typing import Protocol, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

#: Sums of squares lose digits. A variance below this many rounding errors of the mean square is rounding,
#: not spread.
ROUNDING_ERRORS = 64.0


class Sample(Protocol):
    """What a comparison of two arms reads: a mean per unit, and its variance.

    `mean` and `variance` raise ValueError where they are undefined; `measurable` says beforehand.
    The variance of the mean is `variance / n`.
    """

    @property
    def n(self) -> int: ...
    @property
    def measurable(self) -> bool: ...
    @property
    def mean(self) -> float: ...
    @property
    def variance(self) -> float: ...


def _as_values(values: object, name: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"{name} must be one value per unit, got an array of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; {int((~np.isfinite(array)).sum())} of {array.size} are not")
    return array


def _spread(n: int, sum_a: float, sum_b: float, sum_ab: float) -> float:
    """Unbiased covariance (a variance if a is b); 0 where only rounding is left."""
    centred = sum_ab - sum_a * sum_b / n
    rounding = ROUNDING_ERRORS * float(np.finfo(np.float64).eps) * max(abs(sum_ab), abs(sum_a * sum_b / n))
    return 0.0 if abs(centred) <= rounding else centred / (n - 1)


class MeanStatistic(msgspec.Struct, frozen=True):
    """A mean of one real value per unit, from three sums that SQL can compute, too."""

    n: int = 0
    sum: float = 0.0
    sum_squares: float = 0.0

    @classmethod
    def of(cls, values: object) -> Self:
        """values: (units,) finite numbers, one per unit. Raises ValueError for anything else."""
        array = _as_values(values, "values")
        return cls(array.size, float(array.sum()), float(np.square(array).sum()))

    def __add__(self, other: "MeanStatistic") -> "MeanStatistic":
        return MeanStatistic(self.n + other.n, self.sum + other.sum, self.sum_squares + other.sum_squares)

    @property
    def measurable(self) -> bool:
        """A variance needs two units."""
        return self.n >= 2

    @property
    def mean(self) -> float:
        if self.n < 1:
            raise ValueError("the mean of no units is undefined")
        return self.sum / self.n

    @property
    def variance(self) -> float:
        """Unbiased variance between units."""
        if self.n < 2:
            raise ValueError(f"a variance needs 2 units, got {self.n}")
        return max(0.0, _spread(self.n, self.sum, self.sum, self.sum_squares))


class ProportionStatistic(msgspec.Struct, frozen=True):
    """A share of units for which something happened."""

    n: int = 0
    successes: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.n:
            raise ValueError(f"successes must lie between 0 and n = {self.n}, got {self.successes}")

    @classmethod
    def of(cls, values: object) -> Self:
        """values: (units,) zeros and ones (or booleans). Raises ValueError for any other value."""
        array = _as_values(values, "values")
        if not np.isin(array, (0.0, 1.0)).all():
            raise ValueError("a proportion counts zeros and ones; use MeanStatistic for other values")
        return cls(array.size, int(array.sum()))

    def __add__(self, other: "ProportionStatistic") -> "ProportionStatistic":
        return ProportionStatistic(self.n + other.n, self.successes + other.successes)

    @property
    def measurable(self) -> bool:
        return self.n >= 1

    @property
    def mean(self) -> float:
        if self.n < 1:
            raise ValueError("the share of no units is undefined")
        return self.successes / self.n

    @property
    def variance(self) -> float:
        """p (1 - p), the binomial variance of one unit (not the unbiased one: `as_mean()` has that)."""
        return self.mean * (1.0 - self.mean)

    def as_mean(self) -> MeanStatistic:
        """The same units as a mean of zeros and ones."""
        return MeanStatistic(self.n, float(self.successes), float(self.successes))


class PairedStatistic(msgspec.Struct, frozen=True):
    """Two values of the same unit (first, second): their means, variances and covariance."""

    n: int = 0
    sum_first: float = 0.0
    sum_second: float = 0.0
    squares_first: float = 0.0
    squares_second: float = 0.0
    products: float = 0.0

    @classmethod
    def of(cls, first: object, second: object) -> Self:
        """first, second: (units,) in one order of units. Raises ValueError if the lengths differ."""
        a, b = _as_values(first, "first"), _as_values(second, "second")
        if a.shape != b.shape:
            raise ValueError(f"pairs need two values per unit, got {a.size} first and {b.size} second values")
        return cls(
            a.size,
            float(a.sum()),
            float(b.sum()),
            float(np.square(a).sum()),
            float(np.square(b).sum()),
            float((a * b).sum()),
        )

    def __add__(self, other: "PairedStatistic") -> "PairedStatistic":
        return PairedStatistic(
            self.n + other.n,
            self.sum_first + other.sum_first,
            self.sum_second + other.sum_second,
            self.squares_first + other.squares_first,
            self.squares_second + other.squares_second,
            self.products + other.products,
        )

    @property
    def first(self) -> MeanStatistic:
        return MeanStatistic(self.n, self.sum_first, self.squares_first)

    @property
    def second(self) -> MeanStatistic:
        return MeanStatistic(self.n, self.sum_second, self.squares_second)

    @property
    def covariance(self) -> float:
        """Unbiased covariance between units."""
        if self.n < 2:
            raise ValueError(f"a covariance needs 2 units, got {self.n}")
        return _spread(self.n, self.sum_first, self.sum_second, self.products)

    def difference(self) -> MeanStatistic:
        """second - first, per unit."""
        return MeanStatistic(
            self.n,
            self.sum_second - self.sum_first,
            self.squares_second - 2.0 * self.products + self.squares_first,
        )


class RatioStatistic(msgspec.Struct, frozen=True):
    """A ratio of two sums (clicks per query, say), whose units are counted, not its denominators.

    `pairs.first` is the unit's numerator, `pairs.second` its denominator.
    """

    pairs: PairedStatistic = PairedStatistic()

    @classmethod
    def of(cls, numerators: object, denominators: object) -> Self:
        """numerators, denominators: (units,) each, summed per unit."""
        return cls(PairedStatistic.of(numerators, denominators))

    def __add__(self, other: "RatioStatistic") -> "RatioStatistic":
        return RatioStatistic(self.pairs + other.pairs)

    @property
    def n(self) -> int:
        return self.pairs.n

    @property
    def measurable(self) -> bool:
        return self.n >= 2 and self.pairs.sum_second != 0.0

    @property
    def mean(self) -> float:
        """Sum of numerators / sum of denominators."""
        if self.pairs.sum_second == 0.0:
            raise ValueError("a ratio with a denominator of 0 is undefined")
        return self.pairs.sum_first / self.pairs.sum_second

    @property
    def variance(self) -> float:
        """n times the variance of the ratio, by the delta method.

        Deng, Knoblich & Lu (2018), "Applying the Delta Method in Metric Analytics":
        var(X/Y) ~ [var(X) - 2 r cov(X, Y) + r^2 var(Y)] / mean(Y)^2, with r = mean(X) / mean(Y).
        """
        ratio = self.mean
        denominator = self.pairs.second
        # As the variance of X - r Y, so that a constant ratio gives exactly 0 and no rounding error.
        residual = MeanStatistic(
            self.n,
            self.pairs.sum_first - ratio * self.pairs.sum_second,
            self.pairs.squares_first
            - 2.0 * ratio * self.pairs.products
            + ratio**2 * self.pairs.squares_second,
        )
        scale = self.pairs.squares_first + ratio**2 * self.pairs.squares_second
        rounding = ROUNDING_ERRORS * float(np.finfo(np.float64).eps) * scale
        return 0.0 if residual.sum_squares <= rounding else residual.variance / denominator.mean**2
