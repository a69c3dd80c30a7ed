"""What a rebuild, the list of kept stores and a comparison print."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from api.settings import Settings
    from streams.ports import Difference, Digest
    from streams.rebuild import Kept, RebuildReport


def print_report(console: Console, report: RebuildReport) -> None:
    """What was read, the contents of both stores table by table, and the first rows that differ."""
    if report.resumed:
        console.print("went on with an interrupted rebuild (--afresh would have started anew)", style="dim")
    if not report.beside:
        console.print("swapped: what an interrupted rebuild had begun to exchange is exchanged now")
        return
    console.print(
        f"{sum(report.records.values()):,} records read and {report.queries:,} queries folded in "
        f"{report.built_s:.1f} s; the worker stood still for {report.paused_s:.1f} s",
        style="dim",
    )
    print_digests(
        console,
        ("", "rebuilt "),
        report.living,
        report.beside,
        different=report.different,
        not_compared=report.not_compared,
    )
    print_differences(console, report.differences, ("the living tables", "the rebuilt ones"))
    if report.swapped:
        console.print("swapped: the rebuilt tables are the living ones")
    else:
        console.print(
            f"not swapped: {', '.join(report.different)} differ. If the worker was killed, let it run a "
            "moment and rebuild again; if the old tables were damaged: `ratchet rebuild --accept-difference`"
        )


def print_kept(console: Console, name: str, kept: Kept) -> None:
    """What is kept, up to where, and what can be done with it."""
    if kept.resumed:
        console.print("went on with what was kept under this name of the same offsets", style="dim")
    rows = ", ".join(f"{table} {digest.rows:,}" for table, digest in sorted(kept.beside.items()))
    console.print(
        f"kept as {name} (databases ratchet_store_{name} and ratchet_{name}), "
        f"fold {kept.fold_version}: {rows}"
    )
    offsets = msgspec.json.encode(kept.offsets).decode()
    console.print(Text(f"as of {offsets}"), soft_wrap=True)
    console.print(
        f"`ratchet diff live {name}` compares, `ratchet sql --store {name}` reads it, "
        f"`ratchet rebuild --drop {name}` drops it",
        soft_wrap=True,
    )


def print_stores(console: Console, settings: Settings) -> None:
    """The stores beside the living one."""
    from infra.clickhouse.beside import kept_stores
    from infra.clickhouse.connection import living, open_client
    from streams.rebuild import decode_any_state

    client = open_client(settings.clickhouse)
    try:
        stores = kept_stores(client, living(settings.clickhouse))
    finally:
        client.close()
    if not stores:
        console.print("no store is kept beside: `ratchet rebuild --into NAME` makes one")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("name", "fold", "state", "records", "as of"):
        table.add_column(column)
    for store in stores:
        state = decode_any_state(store.noted)
        if state is None:
            table.add_row(store.name, "?", "written by other code", "", "")
            continue
        kept = {topic: sum(ends.values()) for topic, ends in state.target.items()}
        table.add_row(
            store.name,
            str(state.fold_version),
            "kept" if state.phase == "kept" else f"unfinished ({state.phase})",
            f"{sum(state.records.values()):,}",
            ", ".join(f"{topic} {count:,}" for topic, count in kept.items() if count),
        )
    console.print(table)


def print_digests(
    console: Console,
    names: tuple[str, str],
    first: Mapping[str, Digest],
    second: Mapping[str, Digest],
    *,
    different: Collection[str],
    not_compared: Collection[str] = (),
) -> None:
    """Rows and hash of each table in both stores, and what that says."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("table")
    for name in names:
        for column in ("rows", "hash"):
            table.add_column(f"{name}{column}", justify="right")
    table.add_column("")
    for name, fresh in sorted(second.items()):
        old = first.get(name)
        if name in not_compared:
            verdict = "[yellow]another fold[/]"
        else:
            verdict = "[red]differs[/]" if name in different else "[green]equal[/]"
        table.add_row(
            name,
            "–" if old is None else f"{old.rows:,}",
            "–" if old is None else _short(old.hash),
            f"{fresh.rows:,}",
            _short(fresh.hash),
            verdict,
        )
    console.print(table)


def print_differences(console: Console, found: Iterable[Difference], names: tuple[str, str]) -> None:
    """A line a row: its table, its key, and who has it or what differs."""
    for one in found:
        key = ", ".join(f"{name}={value}" for name, value in one.key.items())
        if one.only_in:
            what = f"only in {names[0] if one.only_in == 'first' else names[1]}"
        else:
            what = f"differs in {', '.join(one.columns)}"
        console.print(Text(f"{one.table}: {key}: {what}"), soft_wrap=True)


def _short(number: int) -> str:
    return f"{number & (1 << 64) - 1:016x}"
