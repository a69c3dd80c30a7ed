"""`ratchet import`: old events from a file, times kept and believed."""

from __future__ import annotations

import asyncio
import os
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import IO, Any, Final

import click
from rich.console import Console

from api.cli.door import known_tenant, tenant_option
from api.cli.import_files import Csv, Parquet, Unit, open_plain, read_lines
from api.cli.import_progress import ImportProgress
from api.cli.import_state import Progress
from api.cli.importing import Importing, cut_batches
from api.cli.project import Project
from api.cli.store import VISIBLE_S
from api.settings import Settings
from ingest.formats.pieces import Format
from ingest.formats.registry import FORMATS
from ingest.formats.starters import starter_mapping
from ingest.formats.tables import read_mapping, table_format
from schemas.errors import Retryable

#: Tables, which need a mapping; `rows` are JSON objects, one a line.
TABLES: Final = ("csv", "parquet", "rows")


@click.command("import")
@click.argument("format", type=click.Choice((*FORMATS, *TABLES)), metavar="FORMAT")
@click.argument("path", metavar="PATH")
@tenant_option
@click.option(
    "--mapping", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="How rows become events."
)
@click.option("--sample", is_flag=True, help="Print a first mapping for the columns of PATH, and end.")
@click.option("--id-column", default="", help="The column that names a row. Without it its content does.")
@click.option(
    "--delimiter", default="", help="Between the cells of CSV. Default: what the header has most of."
)
@click.option(
    "--errors",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write every bad line there, as JSON lines.",
)
@click.option("--dry-run", is_flag=True, help="Only say what is bad; nothing is written.")
@click.option("--restart", is_flag=True, help="Begin anew where an import was interrupted.")
@click.option("--no-wait", is_flag=True, help="Return when all is acknowledged, not when it is visible.")
@click.pass_obj
def import_events(
    project: Project,
    format: str,
    path: str,
    tenant: str,
    mapping: Path | None,
    sample: bool,
    id_column: str,
    delimiter: str,
    errors: Path | None,
    dry_run: bool,
    restart: bool,
    no_wait: bool,
) -> None:
    """Load old events; their times are kept and believed.

    FORMAT: cloudevents, ubi, otlp, langfuse, phoenix, mlflow or tensorzero: JSON, one value a line. Or csv,
    parquet or rows (JSON objects, one a line) with a --mapping, of which --sample prints a first one. PATH
    may be packed by gzip or zstd; - is standard input.

    Importing again counts nothing twice: an event is known by its source and id. Of a format without ids, and
    of a row without an --id-column, the content is the id: two equal lines are one event. An import that was
    interrupted goes on where it was. A bad line is printed with its number and reason, and kept in
    `rejected`. Exit code 1 if a line is bad (the others are imported), or if it could not go on.
    """
    if sample:
        click.echo(starter_mapping(_columns(format, path, delimiter)), nl=False)
        return
    console = Console(stderr=True, highlight=False)
    tenant = known_tenant(project.settings, tenant)
    with ExitStack() as opened:
        shown = opened.enter_context(
            ImportProgress(console, path if path == "-" else Path(path).name, _size(format, path))
        )
        reading, begin = _reading(format, path, mapping, id_column, delimiter, shown)
        # standard input cannot be read again
        names = (
            tenant,
            format,
            path if path == "-" else str(Path(path).resolve()),
            _text(mapping),
            id_column,
        )
        directory = None if path == "-" or dry_run else project.data / "imports"
        progress = Progress(directory, *names)
        if restart:
            progress.finish()
            progress = Progress(directory, *names)
        before = progress.found.number
        units = progress.resume(begin)
        if before:
            console.print(
                f"going on after line {before:,}, where it was interrupted"
                if progress.found.number
                else "the file has changed since an import of it was interrupted: it begins anew",
                soft_wrap=True,
            )
        shown.begin()
        found = progress.found.number
        written: IO[bytes] | None = (
            None if errors is None else opened.enter_context(errors.open("ab" if found else "wb"))
        )
        importing = _importing(project, reading, tenant, console, written)
        importing.go_on(progress)
        if dry_run:
            importing.check(cut_batches(units), shown)
        else:
            asyncio.run(_run(project.settings, importing, units, progress, shown))
            progress.finish()
    behind = 0 if dry_run or no_wait else wait_folded(project.settings)
    click.echo(importing.summary(dry_run=dry_run))
    if behind != 0:
        number = "what it read" if behind is None else f"{behind:,} events"
        console.print(
            f"[yellow]{number} may not be in ClickHouse yet, though acknowledged: `ratchet status` shows how "
            "far the worker is behind[/]",
            soft_wrap=True,
        )
    sys.exit(1 if importing.bad else 0)


def _importing(
    project: Project, format: Format, tenant: str, console: Console, errors: IO[bytes] | None
) -> Importing:
    from api.processes.identity import now

    return Importing(format, tenant, project.settings.ingest, console, errors=errors, now=now)


async def _run(
    settings: Settings,
    importing: Importing,
    units: Iterator[Unit],
    progress: Progress,
    shown: ImportProgress,
) -> None:
    """Raises Retryable, Unreadable, Fatal."""
    from api.processes.identity import code_version
    from infra.kafka.gate import GatedEventLog
    from infra.kafka.lifecycle import LifecycleTail
    from infra.kafka.producer import KafkaEventLog
    from ingest.intake import Intake

    ingest = settings.ingest
    async with (
        LifecycleTail(settings.kafka.bootstrap) as lifecycle,
        KafkaEventLog(
            settings.kafka.bootstrap,
            deadline_s=ingest.deadline_s,
            max_in_flight_bytes=ingest.max_in_flight_bytes,
            client_id="ratchet-import",
        ) as log,
    ):
        await lifecycle.wait_caught_up()
        intake = Intake(GatedEventLog(log, lifecycle), ingest, code_version=code_version())
        await importing.run(cut_batches(units), intake, progress, shown)


def _size(format: str, path: str) -> int | None:
    """Bytes of the file; rows are counted by whoever reads them."""
    try:
        return None if path == "-" or format == "parquet" else os.stat(path).st_size  # noqa: PTH116 - and pipes
    except OSError:
        return None


def _columns(format: str, path: str, delimiter: str) -> list[str]:
    if format == "csv":
        with closing(Csv(open_plain(path), delimiter)) as table:
            return table.columns
    if format == "parquet":
        return Parquet(path).columns
    raise click.UsageError("--sample is for csv and parquet: only they say which columns they have")


def _reading(
    format: str, path: str, mapping: Path | None, id_column: str, delimiter: str, shown: ImportProgress
) -> tuple[Format, Callable[[], Iterator[Unit]]]:
    """The format, and a function that begins to read the file."""
    if format in FORMATS:
        if mapping is not None or id_column:
            raise click.UsageError(f"--mapping and --id-column are for {', '.join(TABLES)}")
        return FORMATS[format], lambda: read_lines(open_plain(path, shown.note_read))
    if mapping is None:
        raise click.UsageError(
            f"{format} needs a --mapping: `ratchet import {format} {path} --sample` prints a first one"
        )
    try:
        tree = tomllib.loads(_text(mapping))
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{mapping} is not TOML: {error}") from error
    read = read_mapping(tree, id_column=id_column)
    if format == "rows":
        return table_format(format, read), lambda: read_lines(open_plain(path, shown.note_read))
    if format == "csv":
        first: Any = Csv(open_plain(path, shown.note_read), delimiter)
        again: Callable[[], Any] = lambda: Csv(open_plain(path, shown.note_read), delimiter)  # noqa: E731
    else:
        if path == "-":
            raise click.UsageError("Parquet is read from its end: give it as a file")
        first, again = Parquet(path, shown.note_read), lambda: Parquet(path, shown.note_read)
        shown.expect(first.rows)
    tables = [first]
    # the first one may have read the header from a pipe, where it does not stand a second time
    return table_format(format, read, first.columns), lambda: iter(tables.pop() if tables else again())


def _text(mapping: Path | None) -> str:
    try:
        return "" if mapping is None else mapping.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{mapping} is not UTF-8: {error}") from error


def wait_folded(settings: Settings, patience_s: float = VISIBLE_S) -> int | None:
    """Wait a few seconds for the worker to get through what is in the log now; how much is still to come.

    None if the broker did not say in time: what was imported is acknowledged all the same.
    """
    from infra.kafka.log import GroupProgress

    behind: int | None = None

    async def wait() -> None:
        nonlocal behind
        ends: dict[tuple[str, int], int] = {}
        while behind != 0:
            try:
                async with GroupProgress(settings.kafka.bootstrap, settings.streams.group) as group:
                    while behind != 0:
                        progress = await group.read()
                        ends = ends or {
                            (t, p): one.end for t, ps in progress.items() for p, one in ps.items()
                        }
                        behind = sum(max(0, end - progress[t][p].committed) for (t, p), end in ends.items())
                        if behind:
                            await asyncio.sleep(0.2)
            except Retryable:
                # a broker that starts again just now is no reason to call the import failed
                await asyncio.sleep(0.5)

    async def wait_for_so_long() -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await wait()

    asyncio.run(wait_for_so_long())
    return behind
