"""`ratchet rebuild`: the tables anew from the log, beside the living ones; compared; swapped, or kept."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from api.cli.as_of import read_as_of
from api.cli.progress import Show, counted_steps
from api.cli.project import Project
from api.cli.rebuild_report import print_kept, print_report, print_stores
from api.cli.upgrade import note_rebuilt
from api.cli.worker_pause import StackWorker, committed_when_stopped, log_and_store

if TYPE_CHECKING:
    from streams.ports import LogReader
    from streams.rebuild import Kept, RebuildReport

__all__ = ["committed_when_stopped", "rebuild"]


@click.command()
@click.option(
    "--accept-difference",
    is_flag=True,
    help="Swap although the contents differ: the log is the truth, the old tables were damaged.",
)
@click.option(
    "--worker-is-stopped",
    is_flag=True,
    help="The worker runs elsewhere, and you have stopped it: no process of this directory is touched.",
)
@click.option("--into", metavar="NAME", help="Keep the result beside under this name; swap nothing.")
@click.option(
    "--as-of",
    metavar="OFFSETS|TIME",
    help="With --into: only the log before these offsets (JSON, or a file of it: topic → partition → next "
    "offset) or before this time (ISO 8601).",
)
@click.option(
    "--from-backup",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Read what this backup holds from there: the log may have forgotten it.",
)
@click.option(
    "--afresh", is_flag=True, help="Drop what an interrupted rebuild has left, instead of going on."
)
@click.option("--list", "list_stores", is_flag=True, help="Show the stores that are kept beside.")
@click.option("--drop", metavar="NAME", help="Drop a store that is kept beside.")
@click.pass_obj
def rebuild(
    project: Project,
    accept_difference: bool,
    worker_is_stopped: bool,
    into: str | None,
    as_of: str | None,
    from_backup: Path | None,
    afresh: bool,
    list_stores: bool,
    drop: str | None,
) -> None:
    """Read the log from its beginning, build the tables beside the living ones, compare, swap.

    All goes on meanwhile. The stream worker is paused only at the end, for the last records, the comparison
    and the swap, and started again, whatever happens; nothing that is sent is lost. If the contents differ,
    the first rows that differ are named and nothing is swapped (exit code 1), unless --accept-difference.
    A rebuild that was interrupted is gone on with. Without a running stack, Kafka and ClickHouse are started
    for as long as it takes.

    With --into the result is kept beside under a name, and `ratchet diff live NAME` compares it.
    """
    if as_of is not None and into is None:
        raise click.UsageError("--as-of needs --into NAME: the living tables hold the whole log")
    console = Console(stderr=True, highlight=False)
    with log_and_store(project, console, run_elsewhere=worker_is_stopped):
        if list_stores:
            print_stores(Console(highlight=False), project.settings)
        elif drop is not None:
            _drop(project, drop)
        elif into is not None:
            with counted_steps(console) as show:
                kept = asyncio.run(_keep(project, into, as_of, from_backup, show, afresh=afresh))
            print_kept(Console(highlight=False), into, kept)
        else:
            worker = StackWorker(project, console, stopped_elsewhere=worker_is_stopped)
            with counted_steps(console) as show:
                report = asyncio.run(
                    _rebuild(
                        project,
                        worker,
                        from_backup,
                        show,
                        accept_difference=accept_difference,
                        afresh=afresh,
                    )
                )
            if report.swapped and not worker_is_stopped:
                note_rebuilt(project)
            print_report(Console(highlight=False), report)
            sys.exit(0 if report.swapped else 1)


async def _rebuild(
    project: Project,
    worker: StackWorker,
    from_backup: Path | None,
    show: Show,
    *,
    accept_difference: bool,
    afresh: bool,
) -> RebuildReport:
    from infra.clickhouse.beside import ClickHouseStoreBeside
    from infra.clickhouse.connection import living, open_client
    from streams.rebuild import rebuild as build_again

    settings = project.settings
    client = await asyncio.to_thread(open_client, settings.clickhouse, timeout_s=600.0)
    try:
        return await build_again(
            await _reader(project, from_backup),
            ClickHouseStoreBeside(client, living(settings.clickhouse)),
            worker,
            settings.streams,
            progress=show,
            accept_difference=accept_difference,
            afresh=afresh,
        )
    finally:
        client.close()


async def _keep(
    project: Project, name: str, as_of: str | None, from_backup: Path | None, show: Show, *, afresh: bool
) -> Kept:
    from infra.clickhouse.beside import ClickHouseStoreBeside, databases_named
    from infra.clickhouse.connection import living, open_client
    from infra.kafka.log import KafkaLogReader
    from schemas.errors import Fatal
    from streams.rebuild import keep_as_of

    settings = project.settings
    if name == "live":
        raise Fatal("the living store is `live`: give the kept one another name")
    databases_named(name)
    offsets = await read_as_of(KafkaLogReader(settings.kafka.bootstrap), as_of)
    client = await asyncio.to_thread(open_client, settings.clickhouse, timeout_s=600.0)
    try:
        return await keep_as_of(
            await _reader(project, from_backup),
            ClickHouseStoreBeside(client, living(settings.clickhouse), name),
            offsets,
            settings.streams,
            progress=show,
            afresh=afresh,
        )
    finally:
        client.close()


async def _reader(project: Project, from_backup: Path | None) -> LogReader:
    from infra.kafka.log import KafkaLogReader

    reader = KafkaLogReader(project.settings.kafka.bootstrap)
    if from_backup is None:
        return reader
    from infra.backup.reader import BackupLogReader, BackupThenLog

    return BackupThenLog(BackupLogReader.open(from_backup), reader)


def _drop(project: Project, name: str) -> None:
    from infra.clickhouse.beside import databases_named, kept_stores
    from infra.clickhouse.connection import living, open_client
    from infra.clickhouse.migrate import drop_databases
    from schemas.errors import Fatal

    databases = living(project.settings.clickhouse)
    client = open_client(project.settings.clickhouse)
    try:
        known = [store.name for store in kept_stores(client, databases)]
        if name not in known:
            raise Fatal(f"no store {name!r} is kept beside; there are: {', '.join(known) or 'none'}")
        if name == "next":
            raise Fatal("`next` is an unfinished rebuild: `ratchet rebuild --afresh` starts it anew")
        drop_databases(client, databases_named(name, databases))
    finally:
        client.close()
    click.echo(f"dropped {name}")
