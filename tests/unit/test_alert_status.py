"""What `ratchet status` says of alerts, and where a local stack's processes are looked at."""

from __future__ import annotations

import datetime as dt
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.alerts.settings import AlertSettings
from api.cli.config import config
from api.cli.local_stack import local_stack
from api.cli.project import Project
from api.cli.stack import _print_alerts, describe
from api.http.alerts import ShownAlert, ShownAlerts
from api.processes.alerts import targets_of
from api.settings import HttpSettings, InboxSettings, Settings, load_settings
from infra.local.control import StackStatus

NOW = dt.datetime.now(dt.UTC)
LAG = ShownAlert(
    alert="RatchetLagOld",
    severity="critical",
    labels={"topic": "interactions"},
    summary="the oldest record of interactions that is not in the store waits for 15m 0s [/b]",
    runbook="docs/operations.md#ratchetlagold",
    value=900.0,
    since=NOW - dt.timedelta(minutes=3, seconds=5),
)


def test_status_says_what_is_raised_since_when_and_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _print_alerts(ShownAlerts(NOW, (LAG,)))
    assert capsys.readouterr().out == (
        "critical RatchetLagOld: the oldest record of interactions that is not in the store waits for 15m 0s "
        "[/b], 3 min ago; see docs/operations.md#ratchetlagold\n"
    )
    _print_alerts(ShownAlerts(NOW, ()))
    assert re.fullmatch(r"alerts: none, as of \d+ s ago\n", capsys.readouterr().out)
    for unknown in (None, ShownAlerts(None, ())):
        _print_alerts(unknown)
        assert "not known" in capsys.readouterr().out


@pytest.mark.service
def test_status_for_scripts_has_the_alerts(tmp_path: Path) -> None:
    project, stack = Project(tmp_path), StackStatus("/a", None, None, ())
    assert describe(project, stack, None, None)["alerts"] is None
    (shown,) = describe(project, stack, None, ShownAlerts(NOW, (LAG,)))["alerts"]
    assert (shown["alert"], shown["labels"]) == ("RatchetLagOld", {"topic": "interactions"})


@pytest.mark.service
def test_a_local_stack_looks_at_every_process_it_has(tmp_path: Path) -> None:
    (tmp_path / "ratchet.toml").write_text("[streams]\nworkers = 2\n")
    project = Project(tmp_path)
    spec = local_stack(project, learn=False)
    by_name = {process.name: process for process in spec.processes}
    alerts = by_name["alerts"]
    assert alerts.after == ()
    targets = json.loads(alerts.env["RATCHET_ALERTS__TARGETS"])
    assert {job: len(urls) for job, urls in targets.items()} == {
        "ratchet-api": 1,
        "ratchet-clickhouse": 1,
        "ratchet-streams": 2,
    }
    assert targets["ratchet-api"] == [f"http://127.0.0.1:{project.settings.api.port}"]
    # the process reads it as a setting
    read = load_settings(tmp_path, {"RATCHET_ALERTS__TARGETS": alerts.env["RATCHET_ALERTS__TARGETS"]})
    assert read.settings.alerts.targets["ratchet-streams"] == tuple(targets["ratchet-streams"])


@pytest.mark.service
def test_targets_that_were_chosen_are_kept(tmp_path: Path) -> None:
    (tmp_path / "ratchet.toml").write_text('[alerts.targets]\nratchet-api = ["http://elsewhere:1"]\n')
    project = Project(tmp_path)
    spec = local_stack(project, learn=False)
    (alerts,) = (process for process in spec.processes if process.name == "alerts")
    assert "RATCHET_ALERTS__TARGETS" not in alerts.env
    assert project.settings.alerts == AlertSettings(targets={"ratchet-api": ("http://elsewhere:1",)})


def test_without_targets_one_process_of_each_is_where_the_settings_say() -> None:
    settings = Settings(
        api=HttpSettings(host="0.0.0.0", port=1), streams_http=HttpSettings(host="::1", port=2)
    )
    assert targets_of(settings) == {
        "ratchet-api": ("http://127.0.0.1:1",),
        "ratchet-streams": ("http://[::1]:2",),
        "ratchet-search": ("http://127.0.0.1:8001",),
        "ratchet-learner": ("http://127.0.0.1:8003",),
    }
    with_inbox = targets_of(Settings(inbox=InboxSettings(tenants=("acme",))))
    assert with_inbox["ratchet-inbox"] == ("http://127.0.0.1:8005",)


def test_the_webhooks_secret_is_not_shown_unasked(tmp_path: Path) -> None:
    (tmp_path / "ratchet.toml").write_text('[alerts]\nwebhook_secret = "of-the-receiver"\n')
    runner = CliRunner()
    shown = runner.invoke(config, ["show"], obj=Project(tmp_path))
    assert shown.exit_code == 0
    assert "webhook_secret" in shown.output
    assert "of-the-receiver" not in shown.output
    assert "of-the-receiver" in runner.invoke(config, ["show", "--secrets"], obj=Project(tmp_path)).output
