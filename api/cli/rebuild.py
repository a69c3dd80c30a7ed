"""`ratchet rebuild`: the tables anew from the log, beside the living ones; compared; swapped."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.progress import steps_progress
from api.cli.project import Project
from infra.local import stack
from infra.local.control import StackEvent
from schemas.errors import Fatal

if TYPE_CHECKING:
    from streams.rebuild import Progress, RebuildReport
    from streams.settings import StreamSettings

WORKER: Final = "streams"


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
@click.pass_obj
def rebuild(project: Project, accept_difference: bool, worker_is_stopped: bool) -> None:
    """Read the log from its beginning, build the tables beside the living ones, compare, swap.

    The stream worker is paused meanwhile and started again, whatever happens; doors and search go on, and
    nothing that is sent is lost. If the contents differ nothing is swapped (exit code 1), unless
    --accept-difference. Without a running stack, Kafka and ClickHouse are started for as long as it takes.
    """
    console = Console(stderr=True, highlight=False)
    with (
        _worker_paused(project, console, touch_nothing=worker_is_stopped),
        steps_progress(console) as progress,
    ):
        tasks: dict[str, int] = {}

        def show(step: str, done: int) -> None:
            if step not in tasks:
                tasks[step] = int(progress.add_task(step, total=None))
            progress.update(tasks[step], completed=done)  # type: ignore[arg-type]

        report = asyncio.run(
            _rebuild(
                project, show, accept_difference=accept_difference, ask_whether_stopped=worker_is_stopped
            )
        )
    print_report(Console(highlight=False), report)
    sys.exit(0 if report.swapped else 1)


async def _rebuild(
    project: Project, progress: Progress, *, accept_difference: bool, ask_whether_stopped: bool
) -> RebuildReport:
    from infra.clickhouse.beside import ClickHouseStoreBeside
    from infra.clickhouse.connection import open_client
    from infra.kafka.log import KafkaLogReader
    from streams.rebuild import rebuild as build_again

    settings = project.settings
    until = await committed_when_stopped(
        settings.kafka.bootstrap, settings.streams, ask_whether_stopped=ask_whether_stopped
    )
    client = await asyncio.to_thread(open_client, settings.clickhouse, timeout_s=600.0)
    try:
        return await build_again(
            KafkaLogReader(settings.kafka.bootstrap),
            ClickHouseStoreBeside(client),
            until,
            settings.streams,
            progress=progress,
            accept_difference=accept_difference,
        )
    finally:
        client.close()


async def committed_when_stopped(
    bootstrap: str, streams: StreamSettings, *, ask_whether_stopped: bool
) -> dict[str, dict[int, int]]:
    """Topic → partition → next offset that the stopped worker has committed.

    A broker that has just started is waited for until it knows them, `retry_for_s` at most (Fatal). With
    `ask_whether_stopped` a group that still has members after two session timeouts is Fatal: a worker would
    go on writing tables that are about to be exchanged. Raises Retryable if no broker answers.
    """
    from infra.kafka.log import GroupProgress
    from streams.persistence import persist

    async with GroupProgress(bootstrap, streams.group) as group:
        if ask_whether_stopped:
            give_up_at = time.monotonic() + 2 * streams.session_timeout_s
            while members := await persist(
                group.members, doing="asking whether the worker is stopped", retry_for_s=streams.retry_for_s
            ):
                if time.monotonic() > give_up_at:
                    raise Fatal(
                        f"expected no worker in group {streams.group!r}, but {', '.join(members)} "
                        "is still in it: stop it, then rebuild"
                    )
                await asyncio.sleep(0.5)
        progress = await persist(
            group.read, doing="reading what the worker has committed", retry_for_s=streams.retry_for_s
        )
    return {topic: {p: one.committed for p, one in ps.items()} for topic, ps in progress.items()}


@contextmanager
def _worker_paused(project: Project, console: Console, *, touch_nothing: bool) -> Iterator[None]:
    if touch_nothing:
        yield
    elif stack.status(project.data).supervisor_pid is not None:
        stack.stop(project.data, WORKER)
        console.print("[dim]the worker is paused; doors go on taking events[/]")
        try:
            yield
        finally:
            stack.start(project.data, WORKER)
            console.print("[dim]the worker runs again[/]")
    else:
        from api.cli.local_stack import local_stack

        whole = local_stack(project, learn=False)
        needed = tuple(process for process in whole.processes if not process.after)
        names = {process.name for process in needed}
        ports = {name: port for name, port in whole.ports.items() if name.split("'")[0] in names}

        def tell(event: StackEvent) -> None:
            console.print(Text(f"{event.process:<11}{event.text}", "dim"))

        with stack.up(msgspec.structs.replace(whole, processes=needed, ports=ports), tell, tied=True):
            yield


def print_report(console: Console, report: RebuildReport) -> None:
    """What was read, and the contents of both stores table by table."""
    console.print(
        f"{sum(report.records.values()):,} records read, {report.queries:,} queries folded", style="dim"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for column in ("rows", "hash", "rebuilt rows", "rebuilt hash"):
        table.add_column(column, justify="right")
    table.add_column("")
    for name, fresh in sorted(report.beside.items()):
        old = report.living.get(name)
        if name in report.not_compared:
            verdict = "[yellow]another fold[/]"
        else:
            verdict = "[red]differs[/]" if name in report.different else "[green]equal[/]"
        table.add_row(
            name,
            "–" if old is None else f"{old.rows:,}",
            "–" if old is None else _short(old.hash),
            f"{fresh.rows:,}",
            _short(fresh.hash),
            verdict,
        )
    console.print(table)
    if report.swapped:
        console.print("swapped: the rebuilt tables are the living ones")
    else:
        console.print(
            f"not swapped: {', '.join(report.different)} differ. If the worker was killed, let it run a "
            "moment and rebuild again; if the old tables were damaged: `ratchet rebuild --accept-difference`"
        )


def _short(number: int) -> str:
    return f"{number & (1 << 64) - 1:016x}"
