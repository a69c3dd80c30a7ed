"""What docs/operations.md says is so: metrics, alerts, files, commands and settings."""

from __future__ import annotations

import importlib
import re
import time
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from api.alerts.settings import AlertSettings
from api.alerts.webhook import signature
from api.cli.main import COMMANDS
from schemas.alerts import ALERTS
from schemas.telemetry import METRICS
from tests.docs.metrics_table import PATH, render_table, split

ROOT = PATH.parents[1]
TEXT = PATH.read_text(encoding="utf-8")
PROMETHEUS = ROOT / "infra" / "deploy" / "prometheus"
yaml: Any = importlib.import_module("yaml")  # without types, whether or not its stubs are installed


def test_the_table_of_metrics_is_that_of_the_code() -> None:
    _, between, _ = split(TEXT)
    assert between == render_table(), "run: python -P -m tests.docs.metrics_table"


def test_every_metric_with_an_action_says_what_to_do_in_words() -> None:
    for metric in METRICS:
        assert metric.meaning.endswith(".")
        assert not metric.operator_action or metric.operator_action.endswith(".")


def test_every_alert_has_an_entry_and_every_entry_an_alert() -> None:
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    entries = re.findall(r"^### (Ratchet\w+)$", TEXT, flags=re.MULTILINE)
    assert entries == alerts


def test_files_that_are_named_exist() -> None:
    named = re.findall(r"`((?:infra|docs|tests|schemas|api)/[\w./-]+)`", TEXT)
    assert named
    missing = [name for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_commands_that_are_named_exist() -> None:
    named = set(re.findall(r"`ratchet (\w+)", TEXT))
    assert named
    assert named <= set(COMMANDS)


def test_services_that_are_named_are_in_the_compose_file() -> None:
    services = set(yaml.safe_load((ROOT / "infra" / "deploy" / "compose.yaml").read_text())["services"])
    named = set(re.findall(r"docker compose \S* ?(?:exec|restart|logs|stop) (\w+)", TEXT))
    assert named
    assert named <= services


def test_make_targets_that_are_named_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", TEXT):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_versions_of_images_are_those_of_the_compose_file() -> None:
    compose = (ROOT / "infra" / "deploy" / "compose.yaml").read_text()
    for image in re.findall(r"`((?:apache|clickhouse|prom)/[\w-]+:[\w.]+)`", TEXT):
        assert f"image: {image}\n" in compose, image


def test_the_receivers_check_that_is_shown_knows_who_sent_it() -> None:
    (code,) = re.findall(r"^```python\n(.*?sent_by_ratchet.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    shown: dict[str, Any] = {}
    exec(code, shown)
    check, body = shown["sent_by_ratchet"], b'{"version":"4"}'
    headers = {name.lower(): value for name, value in signature("s", int(time.time()), body).items()}
    assert check("s", headers, body)
    assert not check("other", headers, body)
    assert not check("s", headers, body + b" ")
    old = {name.lower(): value for name, value in signature("s", int(time.time()) - 600, body).items()}
    assert not check("s", old, body)
    assert not check("s", {**old, "ratchet-timestamp": headers["ratchet-timestamp"]}, body)


def test_alerts_settings_that_are_named_exist() -> None:
    fields = {field.name for field in msgspec.structs.fields(AlertSettings)}
    named = set(re.findall(r"`alerts\.(\w+)`", TEXT))
    assert named
    assert named <= fields
    assert set(re.findall(r"`(Ratchet\w+) = [\d.]+`", TEXT)) <= {
        a.name for a in ALERTS if a.threshold is not None
    }


def test_the_settings_file_for_production_is_toml() -> None:
    assert "kafka" in tomllib.loads(Path(ROOT / "infra" / "deploy" / "ratchet.toml").read_text())
