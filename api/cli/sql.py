"""`ratchet sql`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.project import Project
from api.cli.store import open_store

#: What a table on a terminal is made from: names, types, then rows.
_TABLE_FORMAT: Final = "JSONCompactEachRowWithNamesAndTypes"
#: More rows than this are not for reading on a terminal.
_MAX_ROWS: Final = 1_000
#: A column may be squeezed to this many characters before a row is shown as a block of its own.
_NARROWEST: Final = 12
_MAX_CELL: Final = 2_000


@click.command()
@click.argument("statement", required=False)
@click.option(
    "--format",
    "-f",
    "format_",
    metavar="FORMAT",
    help="Any format of ClickHouse, printed as it comes: CSVWithNames, JSONEachRow, Parquet, Vertical … "
    "Default: a table on a terminal, TabSeparatedWithNames elsewhere.",
)
@click.option(
    "--store",
    "store_name",
    metavar="NAME",
    default="live",
    show_default=True,
    help="A store that `ratchet rebuild --into NAME` keeps, in place of the living one.",
)
@click.pass_obj
def sql(project: Project, statement: str | None, format_: str | None, store_name: str) -> None:
    """Run one SELECT over the promised views (standard input if no STATEMENT is given).

    The account may read the views of database `ratchet`, those of kept stores (`ratchet_NAME`), and nothing
    else. `SHOW TABLES` lists them, `DESCRIBE episodes` shows one. One statement may read both:
    `SELECT … FROM episodes AS kept JOIN ratchet.episodes AS live USING (tenant, query_id)`.
    """
    if statement is None:
        if sys.stdin.isatty():
            raise click.UsageError('give a statement: `ratchet sql "SELECT count() FROM events"`')
        statement = sys.stdin.read()
    store = open_store(project.settings.clickhouse, store_name)
    if format_ is None and sys.stdout.isatty():
        answer = store.ask(statement, _TABLE_FORMAT)
        if answer.format == _TABLE_FORMAT:
            print_rows(Console(highlight=False), answer.body)
            return
    else:
        answer = store.ask(statement, format_ or "TabSeparatedWithNames")
    sys.stdout.buffer.write(answer.body)
    sys.stdout.buffer.flush()


def print_rows(console: Console, body: bytes) -> None:
    """A table of an answer in JSONCompactEachRowWithNamesAndTypes; rows as blocks if it would not fit."""
    lines = body.splitlines()
    if len(lines) < 2:
        return
    names: list[str] = msgspec.json.decode(lines[0])
    types: list[str] = msgspec.json.decode(lines[1])
    rows: list[list[Any]] = [msgspec.json.decode(line) for line in lines[2 : 2 + _MAX_ROWS]]
    if _fits(console.width, names, rows):
        _print_table(console, names, types, rows)
    else:
        _print_blocks(console, names, rows)
    total = len(lines) - 2
    shown = "" if total <= _MAX_ROWS else f", the first {_MAX_ROWS:,} shown: `--format` prints all"
    console.print(f"[dim]{total:,} row{'' if total == 1 else 's'}{shown}[/]")


def _fits(width: int, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> bool:
    needed = 0
    for index, name in enumerate(names):
        widest = max((len(_text(row[index])) for row in rows), default=0)
        needed += max(min(widest, _NARROWEST), min(len(name), _NARROWEST)) + 2
    return needed - 2 <= width


def _print_table(
    console: Console, names: Sequence[str], types: Sequence[str], rows: Sequence[Sequence[Any]]
) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, type_ in zip(names, types, strict=True):
        table.add_column(Text(name), justify="right" if _is_number(type_) else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    console.print(table)


def _print_blocks(console: Console, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    for number, row in enumerate(rows, 1):
        console.print(f"[dim]── row {number} ──[/]")
        block = Table(box=None, pad_edge=False, show_header=False)
        block.add_column(style="bold", no_wrap=True)
        block.add_column(overflow="fold")
        for name, value in zip(names, row, strict=True):
            block.add_row(Text(name), _cell(value))
        console.print(block)


def _is_number(type_: str) -> bool:
    inner = type_.removeprefix("LowCardinality(").removeprefix("Nullable(")
    return inner.startswith(("Int", "UInt", "Float", "Decimal", "BFloat"))


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        return "NULL"
    if isinstance(value, float):
        return f"{value:.12g}"
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):  # a tuple with named parts: the names would only take room here
        return f"({', '.join(map(_text, value.values()))})"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _cell(value: Any) -> Text:
    text = _text(value)
    if len(text) > _MAX_CELL:
        text = f"{text[:_MAX_CELL]}… ({len(text):,} characters)"
    return Text(text, style="dim" if value is None else "")
