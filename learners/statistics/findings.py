"""What a statistic may say: an interval, or that it cannot say, with the reason.

Every function of the kernel that judges data returns `Interval | CannotSay` (or a result that holds them).
There is no default that looks like a result: no p-value of 1, no interval (0, 0). Both types are tagged
(`says`), so a union of them survives a round trip through JSON. All numbers in them are finite.
"""

import math
from typing import Literal

import msgspec

Horizon = Literal["always", "fixed"]
"""`always`: holds at every look at once, stop when you like. `fixed`: holds for one planned look."""

Reason = Literal[
    "too_few_units",
    "zero_variance",
    "undefined_ratio",
    "control_mean_near_zero",
    "not_binary",
    "too_few_groups",
    "too_few_events",
    "rate_at_ceiling",
    "no_such_arm",
]


class CannotSay(msgspec.Struct, frozen=True, tag="cannot_say", tag_field="says"):
    """The data do not support a statement. `detail` says what was needed and what came."""

    reason: Reason
    detail: str
    n: int
    """How many units (groups, events) there were."""
    needed: int | None = None
    """How many would have been enough; None where more data alone need not help."""


class Interval(msgspec.Struct, frozen=True, kw_only=True, tag="interval", tag_field="says"):
    """An estimate with its two-sided 1 - alpha confidence interval.

    Guarantees `low <= estimate <= high`, all finite, and 0 < alpha < 1.
    """

    estimate: float
    low: float
    high: float
    alpha: float
    horizon: Horizon
    measures: Literal["difference", "relative_difference"]
    """`difference`: treatment - control, in the metric's unit; `relative_`: divided by control's mean."""
    method: str
    n: int
    """How many of `counted` stand behind the interval, all arms together."""
    counted: str = "unit"
    p_value: float | None = None
    """Two-sided, of "no difference", under the same horizon; None where the method gives none."""
    resampled: str | None = None
    """What a bootstrap drew; None if nothing was resampled."""

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must lie in (0, 1), got {self.alpha}")
        if not all(math.isfinite(bound) for bound in (self.estimate, self.low, self.high)):
            raise ValueError(f"an interval is finite, got {self.estimate} in [{self.low}, {self.high}]")
        if not self.low <= self.estimate <= self.high:
            raise ValueError(f"estimate {self.estimate} lies outside of [{self.low}, {self.high}]")

    def above(self, value: float = 0.0) -> bool:
        """Whether the whole interval lies above `value`."""
        return self.low > value

    def below(self, value: float = 0.0) -> bool:
        """Whether the whole interval lies below `value`."""
        return self.high < value


def check_alpha(alpha: float) -> None:
    """Raise ValueError unless 0 < alpha < 1: a wrong alpha is a mistake of the caller, not of the data."""
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
