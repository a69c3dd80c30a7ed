"""Prometheus' rules, `infra/deploy/prometheus/rules.yml`, from `schemas/alerts.py`.

python -P -m tests.docs.alert_rules     writes them anew
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from schemas.alerts import ALERTS, Alert

PATH: Final = Path(__file__).resolve().parents[2] / "infra" / "deploy" / "prometheus" / "rules.yml"
HEAD: Final = """\
# Made from schemas/alerts.py by `python -P -m tests.docs.alert_rules`: change it there.
# `promtool test rules rules_test.yml` tests what fires and what does not; `make test` runs the same tests in
# the evaluation inside, and by promtool where it can be had.
groups:
  - name: ratchet
    rules:
"""
_UNITS: Final = (("h", 3600), ("m", 60), ("s", 1))


def render_rules() -> str:
    """The whole file."""
    return HEAD + "\n".join("\n".join(_rule(alert)) + "\n" for alert in ALERTS)


def _rule(alert: Alert) -> Iterator[str]:
    for line in textwrap.wrap(alert.why, 100):
        yield f"      # {line}"
    yield f"      - alert: {alert.name}"
    yield "        expr: >-"
    for line in textwrap.wrap(alert.promql(), 100, break_long_words=False, break_on_hyphens=False):
        yield f"          {line}"
    yield f"        for: {duration(alert.for_s)}"
    yield "        labels:"
    yield f"          severity: {alert.severity}"
    yield "        annotations:"
    yield f"          summary: {json.dumps(alert.summary)}"
    yield f"          runbook_url: {alert.runbook}"


def duration(seconds: int) -> str:
    """Seconds as Prometheus writes them, in the largest unit that leaves no rest."""
    unit, size = next((unit, size) for unit, size in _UNITS if seconds % size == 0)
    return f"{seconds // size}{unit}"


if __name__ == "__main__":
    PATH.write_text(render_rules(), encoding="utf-8")
