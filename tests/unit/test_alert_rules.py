"""Alert rules: over metrics that exist, with a runbook that exists; and, where promtool is, what they do."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from schemas.telemetry import METRICS

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "deploy" / "prometheus"
yaml: Any = importlib.import_module("yaml")  # without types, whether or not its stubs are installed

#: What a histogram and a counter expose beside the name in the table.
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
#: Label names that Prometheus adds by itself.
ADDED_LABELS = {"job", "instance", "le"}
#: What the issue asks to be alerted on.
PROMISED = {
    "RatchetApiSlow",
    "RatchetApiErrors",
    "RatchetLagStalled",
    "RatchetLagGrowing",
    "RatchetNoEvents",
    "RatchetLearnerStuck",
    "RatchetQualityFell",
}


def alerts() -> list[dict[str, Any]]:
    """All rules; everything in the file is an alert."""
    groups = yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def exposed() -> dict[str, tuple[str, ...]]:
    """Series name → labels, as the processes expose them."""
    return {metric.name + suffix: metric.labels for metric in METRICS for suffix in SUFFIXES[metric.kind]}


def selectors(expression: str) -> list[tuple[str, set[str]]]:
    """(series, labels of its matchers) of every metric in an expression."""
    found = re.findall(r"\b(up|ratchet_[a-z_]+)(?:\{([^}]*)\})?", expression)
    return [(name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))) for name, matchers in found]


def anchors(text: str) -> set[str]:
    """What headings of a Markdown text can be linked to as."""
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


ALERTS = alerts()
IDS = [rule["alert"] for rule in ALERTS]


def test_every_promised_alert_is_there_once() -> None:
    assert set(IDS) >= PROMISED
    assert len(IDS) == len(set(IDS))


@pytest.mark.parametrize("rule", ALERTS, ids=IDS)
def test_an_alert_reads_metrics_and_labels_that_exist(rule: dict[str, Any]) -> None:
    known = exposed() | {"up": ()}
    used = selectors(rule["expr"])
    assert used
    for name, labels in used:
        assert name in known, f"{rule['alert']} reads {name}, which schemas/telemetry.py does not have"
        assert labels <= {*known[name], *ADDED_LABELS}, f"{rule['alert']}: {name} has no label of {labels}"


@pytest.mark.parametrize("rule", ALERTS, ids=IDS)
def test_an_alert_says_how_bad_what_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"].strip()
    path, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert anchor == rule["alert"].lower()
    assert anchor in anchors((ROOT / path).read_text(encoding="utf-8"))


def test_every_alert_is_tested_firing_and_silent() -> None:
    tests = yaml.safe_load((FOLDER / "rules_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    firing = {case["alertname"] for case in cases if case["exp_alerts"]}
    silent = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert firing == set(IDS)
    assert silent == set(IDS)


def test_promtool_agrees() -> None:
    """Debian's package `prometheus` has promtool; where it is not installed the file's shape is what is held.

    What the alerts do was then tested by whoever changed them: docs/operations.md says when and with what.
    """
    promtool = shutil.which("promtool")
    if promtool is None:
        assert all(set(rule) == {"alert", "expr", "for", "labels", "annotations"} for rule in ALERTS)
        return
    for arguments in (("test", "rules", "rules_test.yml"), ("check", "config", "prometheus.yml")):
        done = subprocess.run(
            [promtool, *arguments], cwd=FOLDER, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
