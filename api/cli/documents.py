"""`ratchet documents`: load, list, show, remove."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.document_files import NoDocuments, read_documents, size_bytes
from api.cli.document_loading import Loading, batches
from api.cli.door import Api, tenant_option
from api.cli.progress import bytes_progress
from api.cli.project import Project
from api.cli.store import AnalystStore, wait_for_count
from api.processes.identity import mint_id
from api.settings import Settings


@click.group()
def documents() -> None:
    """The documents that are searched."""


@documents.command()
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@tenant_option
@click.option("--no-wait", is_flag=True, help="Return when all is acknowledged, not when it is visible.")
@click.pass_obj
def load(project: Project, path: Path, tenant: str, no_wait: bool) -> None:
    """Load PATH: a .jsonl or .csv file, or a folder of .txt and .md files.

    A line or row has `id` (or `_id`, `document_id`), `text`, and perhaps `title`; everything else becomes a
    field. Loading again is safe: what stands already is not sent, what changed is replaced. Exit code 1 if
    a line is bad; the others are loaded. Where RATCHET_URL or RATCHET_KEY lead to another API or tenant, all
    is sent: this project's ClickHouse does not know what stands there.
    """
    console = Console(stderr=True, highlight=False)
    with Api(project, tenant) as api, bytes_progress(console) as progress:
        task = progress.add_task(path.name, total=size_bytes(path))
        loading = Loading(api, _store_behind(api, project.settings), tenant, mint_id(), progress.console)
        try:
            items = read_documents(path, lambda size: progress.advance(task, size))
            for batch in batches(items):
                loading.take(batch)
        except NoDocuments as error:
            raise click.ClickException(str(error)) from error
    visible = not no_wait and loading.wait_visible()
    click.echo(loading.summary(visible))
    if loading.note:
        console.print(Text(loading.note, "yellow"))
    sys.exit(1 if loading.bad else 0)


@documents.command("list")
@tenant_option
@click.option("--limit", default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="An object a line.")
@click.pass_obj
def list_(project: Project, tenant: str, limit: int, as_json: bool) -> None:
    """The documents that stand, by id."""
    store = AnalystStore(project.settings.clickhouse)
    rows = store.rows(
        "SELECT document_id, title, text, fields, received_time FROM documents "
        "WHERE tenant = {tenant:String} ORDER BY document_id LIMIT {limit:UInt64}",
        tenant=tenant,
        limit=limit,
    )
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(_as_json(row)).decode())
        return
    total = store.row("SELECT count() AS n FROM documents WHERE tenant = {tenant:String}", tenant=tenant)["n"]
    console = Console(highlight=False)
    if not total:
        console.print(Text(f"tenant {tenant} has no documents yet: `ratchet documents load PATH`"))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("document", "title", "text", "stored"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(
            Text(row["document_id"]),
            Text(row["title"]),
            Text(" ".join(row["text"].split())[:200]),
            row["received_time"][:19],
        )
    console.print(table)
    more = "" if total <= len(rows) else f" of {total:,}: `--limit` shows more"
    console.print(f"[dim]{len(rows):,} document{'' if len(rows) == 1 else 's'}{more}[/]")


@documents.command()
@click.argument("document_id")
@tenant_option
@click.option("--json", "as_json", is_flag=True, help="As an object.")
@click.pass_obj
def show(project: Project, document_id: str, tenant: str, as_json: bool) -> None:
    """One document: title, text, fields, and the event that stored it."""
    row = _find(AnalystStore(project.settings.clickhouse), tenant, document_id)
    if as_json:
        click.echo(msgspec.json.encode(_as_json(row)).decode())
        return
    console = Console(highlight=False)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("document", Text(row["document_id"]))
    table.add_row("title", Text(row["title"]))
    for name, value in msgspec.json.decode(row["fields"] or "{}").items():
        table.add_row(Text(name), Text(str(value)))
    table.add_row("stored", f"{row['received_time'][:19]} UTC")
    table.add_row("event", Text(f"{row['event_id']} from {row['source']}"))
    table.add_row("text hash", row["text_hash"])
    console.print(table)
    console.print()
    console.print(Text(row["text"]))


@documents.command()
@click.argument("document_ids", nargs=-1, required=True, metavar="DOCUMENT_ID...")
@tenant_option
@click.pass_obj
def remove(project: Project, document_ids: Sequence[str], tenant: str) -> None:
    """Take documents out of search; the log keeps what was shown.

    Where RATCHET_URL or RATCHET_KEY lead to another API or tenant, it is not looked up whether they stand.
    """
    with Api(project, tenant) as api:
        store = _store_behind(api, project.settings)
        for document_id in document_ids:
            if store is not None:
                _find(store, tenant, document_id)
        for document_id in document_ids:
            path = f"/v1/documents/{quote(document_id, safe='')}"
            api.send("DELETE", path, headers={"Idempotency-Key": mint_id()})
    if store is None:
        fate = " (acknowledged)"
    else:
        gone = wait_for_count(
            store,
            "SELECT count() AS n FROM documents WHERE tenant = {tenant:String} "
            "AND document_id IN {ids:Array(String)}",
            lambda n: n == 0,
            tenant=tenant,
            ids=document_ids,
        )
        fate = "" if gone else ", not visible yet"
    number = len(document_ids)
    click.echo(f"{number} document{'' if number == 1 else 's'} removed{fate}")


def _store_behind(api: Api, settings: Settings) -> AnalystStore | None:
    """The store that shows what this API takes in; None if that is not this project's."""
    return None if api.elsewhere else AnalystStore(settings.clickhouse)


def _find(store: AnalystStore, tenant: str, document_id: str) -> dict[str, Any]:
    rows = store.rows(
        "SELECT * FROM documents WHERE tenant = {tenant:String} AND document_id = {id:String}",
        tenant=tenant,
        id=document_id,
    )
    if not rows:
        raise click.ClickException(
            f"tenant {tenant} has no document {document_id!r}: `ratchet documents list` shows what there is"
        )
    return rows[0]


def _as_json(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"fields": msgspec.json.decode(row["fields"] or "{}")}
