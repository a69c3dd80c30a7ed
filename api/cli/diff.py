"""`ratchet diff`: two stores side by side."""

from __future__ import annotations

import sys
from typing import Any

import click
import msgspec
from rich.console import Console

from api.cli.project import Project
from api.cli.rebuild_report import print_differences, print_digests
from schemas.errors import Fatal


@click.command()
@click.argument("first")
@click.argument("second")
@click.option("--limit", type=click.IntRange(0, 10_000), default=10, show_default=True, help="Rows to name.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def diff(project: Project, first: str, second: str, limit: int, as_json: bool) -> None:
    """Compare two stores by content, table by table, and name the first rows that differ.

    FIRST and SECOND are names given to `ratchet rebuild --into`; `live` is the living store. Exit code 1 if
    anything differs.
    """
    from infra.clickhouse.beside import databases_named, kept_stores
    from infra.clickhouse.compare import find_differences, read_digests
    from infra.clickhouse.connection import living, open_client
    from infra.clickhouse.migrate import is_migrated, written_fold_version

    store = living(project.settings.clickhouse)
    sides = databases_named(first, store), databases_named(second, store)
    client = open_client(project.settings.clickhouse, timeout_s=600.0)
    try:
        known = ["live", *(kept.name for kept in kept_stores(client, store))]
        for name, databases in zip((first, second), sides, strict=True):
            if name not in known:
                raise Fatal(f"no store {name!r}; there are: {', '.join(known)}")
            if not is_migrated(client, databases):
                raise Fatal(
                    f"the tables of {name!r} have another layout than this version's: "
                    "`ratchet up` brings the living ones to it; build a kept one anew"
                )
        digests = [read_digests(client, databases) for databases in sides]
        different = sorted(name for name in digests[0] if digests[0][name] != digests[1][name])
        found = [
            difference
            for table in different
            for difference in find_differences(client, *sides, table=table, limit=limit)
        ]
        folds = [_fold(written_fold_version(client, databases)) for databases in sides]
    finally:
        client.close()
    if as_json:
        body: dict[str, Any] = {
            "equal": not different,
            "different": different,
            "tables": {name: {first: digests[0][name], second: digests[1][name]} for name in digests[0]},
            "rows": found,
        }
        click.echo(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())
    else:
        console = Console(highlight=False)
        if folds[0] != folds[1]:
            console.print(f"{first} was written by {folds[0]}, {second} by {folds[1]}")
        print_digests(console, (f"{first} ", f"{second} "), digests[0], digests[1], different=different)
        print_differences(console, found, (first, second))
        console.print(f"{', '.join(different)} differ" if different else "equal")
        if different:
            looks = [f"`ratchet sql --store {name}`" for name in (first, second) if name != "live"]
            console.print(f"to look into it: {', '.join(looks)}", soft_wrap=True)
    sys.exit(1 if different else 0)


def _fold(version: int | None) -> str:
    return "no fold" if version is None else f"fold {version}"
