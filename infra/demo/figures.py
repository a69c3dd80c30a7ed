"""A figure with its interval, and how it is written."""

from __future__ import annotations

from msgspec import Struct


class Value(Struct, frozen=True, kw_only=True):
    """A figure; everything is None where nothing was measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    #: What kind of interval, and what was resampled or randomised for it.
    interval_from: str = ""


def shown(value: Value | None) -> str:
    """`0.438`, or a dash."""
    return "–" if value is None or value.value is None else f"{value.value:.3f}"


def shown_difference(value: Value | None) -> str:
    """`+0.053 [+0.021, +0.085]`, or a dash."""
    if value is None or value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.value:+.3f}"
    return f"{value.value:+.3f} [{value.low:+.3f}, {value.high:+.3f}]"
