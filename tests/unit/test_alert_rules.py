"""Alert rules: those of the table, over metrics that exist, with a runbook; and what promtool says."""

from __future__ import annotations

import importlib
import random
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from api.alerts.evaluation import evaluate
from api.alerts.promql import parse, parse_selector, selectors
from api.alerts.series import Scraped, SeriesWindow
from api.alerts.wording import humanize
from schemas.alerts import ALERTS as TABLE
from schemas.telemetry import METRICS
from tests.docs import alert_rules
from tests.promtool import find_promtool
from tests.unit.rules_cases import expand

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "deploy" / "prometheus"
yaml: Any = importlib.import_module("yaml")  # without types, whether or not its stubs are installed

#: What a histogram and a counter expose beside the name in the table.
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",)}
#: Label names that Prometheus adds by itself.
ADDED_LABELS = {"job", "instance", "le"}
#: What must be alerted on.
PROMISED = {
    "RatchetApiSlow",
    "RatchetApiErrors",
    "RatchetEventsRejected",
    "RatchetNoEvents",
    "RatchetLagStalled",
    "RatchetLagGrowing",
    "RatchetLagOld",
    "RatchetInboxOld",
    "RatchetFeedbackWaiting",
    "RatchetCacheMisses",
    "RatchetDiskFilling",
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
    used = selectors(parse(rule["expr"]))
    assert used
    for one in used:
        assert one.name in known, (
            f"{rule['alert']} reads {one.name}, which schemas/telemetry.py does not have"
        )
        labels = {matcher.label for matcher in one.matchers}
        assert labels <= {*known[one.name], *ADDED_LABELS}, (
            f"{rule['alert']}: {one.name} lacks one of {labels}"
        )


def test_the_file_is_that_of_the_table() -> None:
    written = alert_rules.PATH.read_text(encoding="utf-8")
    assert written == alert_rules.render_rules(), "run: python -P -m tests.docs.alert_rules"
    for rule, alert in zip(ALERTS, TABLE, strict=True):
        assert rule["expr"] == alert.promql()


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


PROMTOOL = find_promtool()


def promtool(folder: Path, *arguments: str) -> None:
    """Run it; its words are the assertion's."""
    assert PROMTOOL is not None
    done = subprocess.run(
        [PROMTOOL, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_agrees() -> None:
    """Where promtool could not be had (the head of pytest's output says so), the file's shape is held.

    What the alerts do is tested without it, too: the same cases run through the evaluation inside.
    """
    if PROMTOOL is None:
        assert all(set(rule) == {"alert", "expr", "for", "labels", "annotations"} for rule in ALERTS)
        return
    promtool(FOLDER, "test", "rules", "rules_test.yml")
    promtool(FOLDER, "check", "config", "prometheus.yml")


def test_prometheus_takes_the_optional_jobs(tmp_path: Path) -> None:
    """Those that are prepared behind comment signs."""
    for name in ("rules.yml", "prometheus.yml"):
        (tmp_path / name).write_text(re.sub(r"^  # (?=-|  )", "  ", (FOLDER / name).read_text(), flags=re.M))
    config = yaml.safe_load((tmp_path / "prometheus.yml").read_text())
    assert "ratchet-inbox" in [job["job_name"] for job in config["scrape_configs"]]
    if PROMTOOL is not None:
        promtool(tmp_path, "check", "config", "prometheus.yml")


#: What is asked of random samples; `$r` is a range.
EXPRESSIONS = (
    "rate(c[$r])",
    "increase(c[$r])",
    "changes(c[$r])",
    "deriv(g[$r])",
    "min_over_time(g[$r])",
    "sum by (x) (rate(c[$r])) / sum by (x) (increase(c[$r]))",
    "max by (x) (g) - min(g)",
    "max by (x) (g) * 2 + sum by (x) (c) / 3 - 1",
    "histogram_quantile(0.9, sum by (x, le) (rate(h_bucket[$r])))",
    "histogram_quantile(0.5, h_bucket)",
    "(sum by (x) (g{y='1'}) or vector(7)) unless sum by (x) (g > 50)",
    "g > 20 and c < 400",
    "0.5 * g < c",
)


def random_series(rng: random.Random) -> list[dict[str, str]]:
    """Counters with restarts and gaps, gauges that swing, histograms: promtool's notation, 40 minutes."""

    def values(make: Any) -> str:
        gaps = rng.choice((0.0, 0.15, 0.4))
        return " ".join("_" if rng.random() < gaps else f"{make(minute):.9f}" for minute in range(40))

    def counter(speed: float) -> Any:
        state = [rng.random() * 100]

        def step(_minute: int) -> float:
            state[0] = 0.0 if rng.random() < 0.05 else state[0] + rng.random() * speed
            return state[0]

        return step

    series = []
    for x in "ab":
        for y in "12":
            labels = f"{{x='{x}', y='{y}'}}".replace("'", '"')
            series.append({"series": f"c{labels}", "values": values(counter(rng.choice((1, 50))))})
            series.append({"series": f"g{labels}", "values": values(lambda _minute: rng.uniform(-20, 120))})
        bound_counts = [[0.0] * 4 for _ in range(40)]
        for minute in range(1, 40):
            total = 0.0
            for bound in range(4):
                total += rng.randrange(5)
                bound_counts[minute][bound] = bound_counts[minute - 1][bound] + total
        for bound, le in enumerate(("0.1", "1", "10", "+Inf")):
            values_of = " ".join(str(counts[bound]) for counts in bound_counts)
            series.append({"series": f'h_bucket{{x="{x}", le="{le}"}}', "values": values_of})
    return series


def ours(expression: str, series: list[dict[str, str]], time_s: float) -> list[dict[str, Any]]:
    """What the evaluation inside says, as promtool wants alerts to be expected."""
    window = SeriesWindow({"c", "g", "h_bucket"}, 3600)
    for one in series:
        selector = parse_selector(one["series"])
        labels = {matcher.label: matcher.value for matcher in selector.matchers}
        for minute, value in enumerate(expand(one["values"])):
            if value is not None and minute * 60 <= time_s:
                window.add(Scraped(selector.name, labels, value), minute * 60.0)
    return [
        {"exp_labels": dict(labels), "exp_annotations": {"value": f"{humanize(value)}"}}
        for labels, value in evaluate(parse(expression), window, time_s).items()
    ]


def test_prometheus_says_the_same_of_random_samples(tmp_path: Path) -> None:
    """Where promtool is: every kind of expression that alerts may use, as rules that show their value."""
    expressions = [
        text.replace("$r", span).replace("'", '"') for text in EXPRESSIONS for span in ("5m", "17m")
    ]
    rules = [
        {"alert": f"E{number}", "expr": text, "annotations": {"value": "{{ $value | humanize }}"}}
        for number, text in enumerate(expressions)
    ]
    tests, asked = [], 0
    for seed in range(4):
        rng = random.Random(seed)
        series = random_series(rng)
        cases = []
        for minute in rng.sample(range(1, 44), 5):
            for number, text in enumerate(expressions):
                expected = ours(text, series, minute * 60.0)
                asked += len(expected)
                cases.append({"eval_time": f"{minute}m", "alertname": f"E{number}", "exp_alerts": expected})
        tests.append({"interval": "1m", "input_series": series, "alert_rule_test": cases})
    assert asked > 500
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "random", "rules": rules}]}))
    (tmp_path / "tests.yml").write_text(
        yaml.safe_dump({"rule_files": ["rules.yml"], "evaluation_interval": "1m", "tests": tests})
    )
    if PROMTOOL is not None:
        promtool(tmp_path, "test", "rules", "tests.yml")
