"""What `ratchet up` does before it starts anything: the data directory becomes one of this version."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace
from rich.console import Console

from api.cli.worker_pause import log_and_store
from infra.local import stack
from infra.local.data_version import DataVersion, read_version, refuse_newer, upgrade_lock, write_version
from infra.local.spec import StackError

if TYPE_CHECKING:
    from api.cli.project import Project


def present_version() -> DataVersion:
    """What this code writes."""
    from infra.clickhouse.migrate import load_migrations
    from infra.local.broker import COORDINATES
    from streams.fold import FOLD_VERSION

    return DataVersion(
        ratchet=metadata.version("ratchet-platform"),
        migration=load_migrations()[-1].number,
        fold=FOLD_VERSION,
        engine=metadata.version("chdb"),
        kafka=COORDINATES.split("+", maxsplit=1)[0].rsplit(":", maxsplit=1)[-1],
    )


def upgrade(project: Project, console: Console) -> None:
    """Bring the data directory to this version, once, before any worker starts; note what it is now.

    An older store is migrated, with Kafka and ClickHouse running for as long as it takes. Raises StackError:
    newer code wrote the directory; or the fold has changed, so that the tables have to be rebuilt first.
    """
    data = project.data
    if stack.status(data).supervisor_pid is not None:
        return  # starting it again is refused with a better sentence
    present = present_version()
    with upgrade_lock(data):
        found = read_version(data)
        if found is None and not _holds_data(data):
            write_version(data, present)
            return
        if found is not None:
            refuse_newer(found, present, data)
        if found is None or found.migration < present.migration:
            console.print(f"[dim]upgrading {data}: migrating the store[/]")
            fold = _migrate(project, console)
            found = replace(present, fold=present.fold if fold is None else fold)
            write_version(data, found)
            refuse_newer(found, present, data)
        if found.fold != present.fold:
            raise StackError(
                f"rebuild needed: the tables of {data} were written by fold {found.fold}, this version folds "
                f"as {present.fold}; run `ratchet rebuild`, then `ratchet up`"
            )
        write_version(data, present)


def note_rebuilt(project: Project) -> None:
    """The tables are those of this version now. Only in a directory that has been started before."""
    data = project.data
    if _holds_data(data) or read_version(data) is not None:
        with upgrade_lock(data):
            write_version(data, present_version())


def _migrate(project: Project, console: Console) -> int | None:
    """Migrate the store; the fold that wrote it, None if nothing is in it."""
    from infra.clickhouse.connection import living, open_client
    from infra.clickhouse.migrate import migrate_store, written_fold_version

    with log_and_store(project, console, run_elsewhere=False):
        migrate_store(project.settings.clickhouse)
        client = open_client(project.settings.clickhouse)
        try:
            return written_fold_version(client, living(project.settings.clickhouse))
        finally:
            client.close()


def _holds_data(data: Path) -> bool:
    return (data / "kafka").exists() or (data / "clickhouse").exists()
