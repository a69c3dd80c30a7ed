"""The cases of `rules_test.yml`, run through the evaluation inside: promtool's notation, our engine."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from api.alerts.firing import RuleSet
from api.alerts.promql import parse_selector
from api.alerts.series import Scraped
from api.alerts.wording import word_summary
from schemas.alerts import ALERTS, Alert

PROMETHEUS = Path(__file__).resolve().parents[2] / "infra" / "deploy" / "prometheus"
yaml: Any = importlib.import_module("yaml")  # without types, whether or not its stubs are installed

_NUMBER = r"[+-]?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)"
_RUN = re.compile(rf"(?P<first>{_NUMBER})(?P<step>[+-](?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?))?x(?P<times>\d+)")
_UNIT_S = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str) -> float:
    """`90m` → 5400."""
    return float(text[:-1]) * _UNIT_S[text[-1]]


def expand(values: str) -> Iterator[float | None]:
    """promtool's series notation; None where there is no sample."""
    for part in values.split():
        found = _RUN.fullmatch(part)
        if found is not None:
            first, step = float(found["first"]), float(found["step"] or 0)
            yield from (first + step * index for index in range(int(found["times"]) + 1))
        elif part.startswith("_"):
            yield from [None] * (int(part[2:]) if part.startswith("_x") else 1)
        else:
            yield float(part)


def run_case(case: Mapping[str, Any], alerts: Sequence[Alert] = ALERTS) -> Iterator[tuple[str, Any, Any]]:
    """(what is asked, expected, raised) of each `alert_rule_test` of one test."""
    rules = RuleSet(alerts, {})
    interval_s = seconds(case["interval"])
    series = []
    for one in case["input_series"]:
        selector = parse_selector(one["series"])
        labels = {matcher.label: matcher.value for matcher in selector.matchers}
        series.append((selector.name, labels, list(expand(str(one["values"])))))
    asked = sorted(case["alert_rule_test"], key=lambda test: seconds(test["eval_time"]))
    time_s = 0.0
    for test in asked:
        while time_s <= seconds(test["eval_time"]):
            for name, labels, values in series:
                index, rest = divmod(time_s, interval_s)
                if rest == 0 and index < len(values) and (value := values[int(index)]) is not None:
                    rules.window.add(Scraped(name, labels, value), time_s)
            raised = rules.evaluate(time_s)
            time_s += 60.0
        expected = sorted(
            (sorted(alert["exp_labels"].items()), sorted(alert["exp_annotations"].items()))
            for alert in test["exp_alerts"]
        )
        got = sorted(
            (
                sorted({**one.labels, "severity": one.alert.severity}.items()),
                [
                    ("runbook_url", one.alert.runbook),
                    ("summary", word_summary(one.alert.summary, one.labels, one.value or math.nan)),
                ],
            )
            for one in raised.values()
            if one.alert.name == test["alertname"]
        )
        yield f"{test['alertname']} at {test['eval_time']}", expected, got


def cases() -> list[dict[str, Any]]:
    """The tests of the file."""
    tests: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "rules_test.yml").read_text())["tests"]
    return tests
