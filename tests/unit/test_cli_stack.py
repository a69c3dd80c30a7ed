"""The local stack as the command line makes and shows it, without starting it."""

from __future__ import annotations

import datetime as dt
import io
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from api.cli.local_stack import local_stack
from api.cli.project import Project, http_url
from api.cli.stack import _print_status, _printer
from api.settings import HttpSettings
from infra.local.control import ProcessStatus, StackEvent, StackStatus
from infra.local.spec import HttpReady

MARKUP = "ends with: [main] no [/x] at :x:"
NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)


@pytest.mark.service
def test_processes_are_asked_where_they_listen(tmp_path: Path) -> None:
    (tmp_path / "ratchet.toml").write_text(
        '[api]\nhost = "127.0.0.2"\n[search_http]\nhost = "0.0.0.0"\n'
        '[clickhouse]\nurl = "http://127.0.0.3:21999"\n'
    )
    project = Project(tmp_path)
    spec = local_stack(project, learn=True)
    asked = {process.name: process.ready for process in spec.processes}
    settings = project.settings
    assert asked["api"] == HttpReady(f"http://127.0.0.2:{settings.api.port}/readyz")
    assert asked["search"] == HttpReady(f"http://127.0.0.1:{settings.search_http.port}/readyz")
    assert asked["clickhouse"] == HttpReady("http://127.0.0.3:21999/readyz")
    assert spec.ports["clickhouse"] == 21999


@pytest.mark.service
def test_the_inbox_runs_where_a_tenant_has_one(tmp_path: Path) -> None:
    settings = '[tenants.acme]\nkey = "k"\n'
    (tmp_path / "ratchet.toml").write_text(settings)
    assert "inbox" not in [one.name for one in local_stack(Project(tmp_path), learn=False).processes]
    (tmp_path / "ratchet.toml").write_text(f'{settings}[inbox]\ntenants = ["acme"]\n')
    project = Project(tmp_path)
    spec = local_stack(project, learn=False)
    (inbox,) = (one for one in spec.processes if one.name == "inbox")
    assert inbox.ready == HttpReady(f"http://127.0.0.1:{project.settings.inbox_http.port}/readyz")
    assert spec.ports["inbox"] == project.settings.inbox_http.port > 0


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://127.0.0.1:8000"),
        ("::1", "http://[::1]:8000"),
        ("box.local", "http://box.local:8000"),
    ],
)
def test_where_a_listener_is_reached(host: str, url: str) -> None:
    assert http_url(HttpSettings(host=host, port=8000)) == url


@pytest.mark.service
def test_a_first_start_without_space_is_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "api.cli", "-C", str(tmp_path), "up", "--no-learn"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *command],
        cwd=Path(__file__).parents[2],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ".", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"ratchet: cannot write {tmp_path}/var/version.json: File too large\n"


def test_what_a_process_printed_is_no_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    _printer(Console(file=out, width=200, highlight=False))(StackEvent(NOW, "api", MARKUP))
    assert out.getvalue().endswith(f" api        {MARKUP}\n")

    monkeypatch.setenv("COLUMNS", "200")
    api = ProcessStatus("api", None, "failed", NOW, False, 0, "api.log", MARKUP)
    _print_status(StackStatus("/a [/b]", None, None, (api,)), None)
    printed = capsys.readouterr().out
    assert "no stack runs in /a [/b]: " in printed
    assert MARKUP in printed
