"""What a data directory says of its version, and what `ratchet up` answers."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace
from rich.console import Console

from api.cli.project import Project
from api.cli.upgrade import note_rebuilt, present_version, upgrade
from infra.local.data_version import DataVersion, read_version, refuse_newer, version_path, write_version
from infra.local.spec import StackError

pytestmark = pytest.mark.service  # asks over its socket whether a stack runs

CONSOLE = Console(quiet=True)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_a_new_directory_is_of_this_version(project: Project) -> None:
    upgrade(project, CONSOLE)
    assert read_version(project.data) == present_version()
    upgrade(project, CONSOLE)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"layout": 2}, "layout 2"),
        ({"migration": 9999}, "migration 9999"),
        ({"fold": 999}, "fold 999"),
        ({"engine": "99.1"}, "engine 99.1"),
        ({"kafka": "4.10.0"}, "Kafka 4.10.0"),
    ],
)
def test_a_newer_directory_is_refused_and_left_alone(
    project: Project, change: dict[str, object], named: str
) -> None:
    newer = replace(present_version(), ratchet="9.0", **change)
    write_version(project.data, newer)
    with pytest.raises(StackError, match=rf"newer version, 9\.0: {named} .*start that version"):
        upgrade(project, CONSOLE)
    assert read_version(project.data) == newer


def test_a_changed_fold_asks_for_a_rebuild_which_is_noted(project: Project) -> None:
    write_version(project.data, replace(present_version(), fold=0))
    with pytest.raises(
        StackError, match=r"rebuild needed: .* fold 0, .*`ratchet rebuild`, then `ratchet up`"
    ):
        upgrade(project, CONSOLE)
    note_rebuilt(project)
    upgrade(project, CONSOLE)
    assert read_version(project.data) == present_version()


def test_an_older_engine_or_broker_is_upgraded_by_starting_it(project: Project) -> None:
    write_version(project.data, replace(present_version(), engine="4.0", kafka="3.9.1"))
    upgrade(project, CONSOLE)
    assert read_version(project.data) == present_version()


def test_a_file_that_cannot_be_read_stops_everything(project: Project) -> None:
    project.data.mkdir()
    version_path(project.data).write_text("{")
    with pytest.raises(StackError, match="restore the file"):
        upgrade(project, CONSOLE)


def test_versions_are_compared_by_number() -> None:
    here = DataVersion(ratchet="1", migration=1, fold=1, engine="4.9.0", kafka="4.1.0")
    refuse_newer(replace(here, engine="4.9"), here, Path("var"))
    with pytest.raises(StackError, match=r"engine 4\.10\.0"):
        refuse_newer(replace(here, engine="4.10.0"), here, Path("var"))
