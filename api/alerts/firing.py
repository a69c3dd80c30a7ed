"""Which alerts are raised: expressions that have held for long enough, once a set of labels. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from api.alerts.evaluation import evaluate
from api.alerts.promql import Node, QueryError, Selector, parse, parse_selector, quoted, selectors
from api.alerts.series import Labels, SeriesWindow
from api.alerts.wording import word_summary
from schemas.alerts import Alert


class Raised(NamedTuple):
    """An alert that is raised."""

    alert: Alert
    labels: Mapping[str, str]
    #: None if it was raised before this process began and has not been seen since.
    value: float | None
    #: When it was raised, or when this process took it over; seconds since 1970.
    since_s: float

    @property
    def key(self) -> str:
        """`name{label="value"}`: names it for ever, in `alert.raised` and `alert.cleared`."""
        inside = ",".join(f"{name}={quoted(value)}" for name, value in sorted(self.labels.items()))
        return f"{self.alert.name}{{{inside}}}" if inside else self.alert.name

    @property
    def summary(self) -> str:
        """What is wrong, in one sentence."""
        if self.value is None:
            return "raised before the process `alerts` was started, and not yet seen again or seen to be over"
        return word_summary(self.alert.summary, self.labels, self.value)


class _Active:
    """An element of an expression's result, pending or raised."""

    def __init__(self, since_s: float) -> None:
        self.since_s = since_s
        self.raised_at_s: float | None = None
        self.value: float | None = None
        #: Taken over from before: it stays until there are samples enough to say that it is over.
        self.held_until_s = 0.0


class Rule:
    """One alert with what it has seen. Not for concurrent use."""

    def __init__(self, alert: Alert, threshold: float | None = None) -> None:
        """`threshold`: instead of the table's. Raises QueryError."""
        if threshold is not None and alert.threshold is None:
            raise QueryError(f"{alert.name} has no threshold to be set")
        self.alert: Final = alert
        self.node: Final[Node] = parse(alert.promql(threshold))
        self._active: dict[Labels, _Active] = {}

    @property
    def selectors(self) -> tuple[Selector, ...]:
        """What it reads."""
        return selectors(self.node)

    @property
    def reach_s(self) -> float:
        """How far back it looks, before and while it holds."""
        return max((one.range_s or 0.0 for one in self.selectors), default=0.0) + self.alert.for_s

    def take_over(self, labels: Mapping[str, str], time_s: float) -> None:
        """It was raised before this process began: it stays raised until it can be said that it is over."""
        active = self._active.setdefault(frozenset(labels.items()), _Active(time_s))
        active.since_s = time_s - self.alert.for_s
        active.raised_at_s = time_s if active.raised_at_s is None else active.raised_at_s
        active.held_until_s = time_s + self.reach_s

    def evaluate(self, window: SeriesWindow, time_s: float) -> list[Raised]:
        """What of it is raised now. Times only grow."""
        result = evaluate(self.node, window, time_s)
        for labels, value in result.items():
            active = self._active.setdefault(labels, _Active(time_s))
            active.value, active.held_until_s = value, 0.0
            if active.raised_at_s is None and time_s - active.since_s >= self.alert.for_s:
                active.raised_at_s = time_s
        for labels in list(self._active.keys() - result.keys()):
            if self._active[labels].held_until_s <= time_s:
                del self._active[labels]
        return [
            Raised(self.alert, dict(labels), active.value, active.raised_at_s)
            for labels, active in self._active.items()
            if active.raised_at_s is not None
        ]


class RuleSet:
    """All rules over one window of samples."""

    def __init__(self, alerts: Sequence[Alert], thresholds: Mapping[str, float]) -> None:
        """`thresholds`: alert → its threshold here. Raises QueryError for one that does not exist."""
        unknown = thresholds.keys() - {alert.name for alert in alerts}
        if unknown:
            names = ", ".join(alert.name for alert in alerts if alert.threshold is not None)
            raise QueryError(
                f"alerts.thresholds: there is no alert {min(unknown)!r}; these have one: {names}"
            )
        self.rules: Final = tuple(Rule(alert, thresholds.get(alert.name)) for alert in alerts)
        reads = [selector for rule in self.rules for selector in rule.selectors]
        self.window: Final = SeriesWindow(
            {selector.name for selector in reads}, max((one.range_s or 0.0 for one in reads), default=0.0)
        )

    def take_over(self, key: str, time_s: float) -> bool:
        """An alert that was raised before; False if no rule is called so any more."""
        try:
            selector = parse_selector(key)
        except QueryError:
            return False
        for rule in self.rules:
            if rule.alert.name == selector.name:
                rule.take_over({matcher.label: matcher.value for matcher in selector.matchers}, time_s)
                return True
        return False

    def evaluate(self, time_s: float) -> dict[str, Raised]:
        """Key → what is raised now."""
        return {raised.key: raised for rule in self.rules for raised in rule.evaluate(self.window, time_s)}
