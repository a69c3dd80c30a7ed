"""The summary of a raised alert: the part of Prometheus' templates that the table of alerts uses."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Final

from api.alerts.promql import QueryError

_PART: Final = re.compile(r"\{\{\s*\$(?:labels\.(?P<label>\w+)|value(?:\s*\|\s*(?P<form>\w+))?)\s*\}\}")
_PREFIXES: Final = ("k", "M", "G", "T", "P", "E", "Z", "Y")
_SMALL_PREFIXES: Final = ("m", "u", "n", "p", "f", "a", "z", "y")


def word_summary(template: str, labels: Mapping[str, str], value: float) -> str:
    """The summary with its labels and value filled in. Raises QueryError for a form that is not known."""

    def fill(found: re.Match[str]) -> str:
        if found["label"] is not None:
            return labels.get(found["label"], "")
        form = found["form"]
        if form is None:
            return f"{value:.6g}"
        if form not in _FORMS:
            raise QueryError(f"{template!r}: {form} is not known here; these are: {', '.join(_FORMS)}")
        return _FORMS[form](value)

    worded = _PART.sub(fill, template)
    if "{{" in worded:
        raise QueryError(f"{template!r}: expected {{{{ $labels.name }}}} or {{{{ $value | form }}}}")
    return worded


def _short(value: float) -> str:
    return f"{value:.4g}"


def humanize(value: float) -> str:
    """Four digits with a metric prefix."""
    if value == 0 or math.isnan(value) or math.isinf(value):
        return _short(value)
    prefix = ""
    if abs(value) >= 1:
        for one in _PREFIXES:
            if abs(value) < 1000:
                break
            prefix, value = one, value / 1000
    else:
        for one in _SMALL_PREFIXES:
            if abs(value) >= 1:
                break
            prefix, value = one, value * 1000
    return _short(value) + prefix


def humanize_percentage(value: float) -> str:
    """A ratio as a percentage."""
    return f"{_short(value * 100)}%"


def humanize_duration(seconds: float) -> str:
    """Seconds as days, hours, minutes, seconds; below a second with a metric prefix."""
    if math.isnan(seconds) or math.isinf(seconds):
        return _short(seconds)
    if abs(seconds) < 1:
        return humanize(seconds) + "s"
    sign = "-" if seconds < 0 else ""
    whole = int(abs(seconds))
    days, hours, minutes, rest = whole // 86_400, whole // 3600 % 24, whole // 60 % 60, whole % 60
    if days:
        return f"{sign}{days}d {hours}h {minutes}m {rest}s"
    if hours:
        return f"{sign}{hours}h {minutes}m {rest}s"
    if minutes:
        return f"{sign}{minutes}m {rest}s"
    return f"{sign}{_short(abs(seconds))}s"


_FORMS: Final[Mapping[str, Callable[[float], str]]] = {
    "humanize": humanize,
    "humanizePercentage": humanize_percentage,
    "humanizeDuration": humanize_duration,
}
