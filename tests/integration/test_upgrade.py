"""The golden directory of release 0.1 in a local stack of today: restored, upgraded, looked into."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from msgspec.structs import replace
from rich.console import Console

from api.cli.main import cli
from api.cli.project import Project
from api.cli.upgrade import present_version, upgrade
from api.cli.worker_pause import log_and_store
from infra.clickhouse.compare import read_digests
from infra.clickhouse.connection import LIVE, open_client
from infra.clickhouse.migrate import is_migrated
from infra.local.data_version import read_version, write_version
from tests.golden.make_release_0_1 import RELEASE

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]


def test_a_directory_of_the_first_release_is_restored_and_upgraded(tmp_path: Path) -> None:
    console = Console(quiet=True)
    restored = CliRunner().invoke(cli, ["-C", str(tmp_path), "restore", str(RELEASE / "backup")])
    assert restored.exit_code == 0, (restored.output, restored.exception)
    project = Project(tmp_path)
    found = read_version(RELEASE)
    assert found is not None
    # one migration is missing, as after the next release
    older = replace(found, migration=present_version().migration - 1, engine="4.0")
    write_version(project.data, older)
    upgrade(project, console)
    assert read_version(project.data) == present_version()
    with log_and_store(project, console, run_elsewhere=False):
        client = open_client(project.settings.clickhouse)
        assert is_migrated(client)
        rows = {table: digest.rows for table, digest in read_digests(client, LIVE).items()}
        client.close()
    expected = json.loads((RELEASE / "rows.json").read_text())
    assert {table: rows[table] for table in expected} == expected
