"""`ratchet keys`: API keys of a tenant. A key is shown once; the log keeps its hash."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Final, cast, get_args

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from api.cli.door import known_tenant, tenant_option
from api.cli.lifecycle import History, carry_out, person_source, read_history
from api.cli.project import Project
from api.processes.identity import now
from ingest.keys import DEFAULT_SCOPES, describe_key, make_key
from ingest.ports import Limits, Scope
from schemas.lifecycle import KeyRevoked

#: What the list calls a tenant's key of the settings.
_SETTINGS: Final = "settings"
_json_option = click.option("--json", "as_json", is_flag=True, help="As JSON.")
_rate = click.FloatRange(min=0)


@click.group()
def keys() -> None:
    """API keys: what a caller may do, for one tenant. In force, and void, within a second everywhere."""


@keys.command()
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(get_args(Scope)),
    help="What it may do; once or more. Default: send and read.",
)
@click.option("--name", default="", help="What it is for.")
@click.option(
    "--max-requests-per-s", type=_rate, help="A process; 0 = no limit. Default: ingest.max_requests_per_s."
)
@click.option(
    "--max-events-per-s", type=_rate, help="A process; 0 = no limit. Default: ingest.max_events_per_s."
)
@tenant_option
@_json_option
@click.pass_obj
def issue(
    project: Project,
    scopes: Sequence[str],
    name: str,
    max_requests_per_s: float | None,
    max_events_per_s: float | None,
    tenant: str,
    as_json: bool,
) -> None:
    """Issue a key and print it, this once."""
    known_tenant(project.settings, tenant)
    if len(name) > 100:
        raise click.UsageError(f"expected a name of at most 100 characters, got {len(name)}")
    key, issued = make_key(
        os.urandom,
        scopes=cast(Sequence[Scope], scopes) or DEFAULT_SCOPES,
        name=name,
        issued_by=person_source(),
        issued_at=now(),
        limits=Limits(max_requests_per_s, max_events_per_s),
    )
    carry_out(project.settings, tenant, lambda _: (issued, ""))
    if as_json:
        click.echo(msgspec.json.encode({"key": key, **describe_key(issued)}))
        return
    click.echo(key)
    click.echo(
        f"Key {issued.key_id} of tenant {tenant}; it may {', '.join(issued.scopes)}. It is not shown again; "
        f"`ratchet keys revoke {issued.key_id}` makes it void.",
        err=True,
    )


@keys.command("list")
@tenant_option
@_json_option
@click.pass_obj
def list_keys(project: Project, tenant: str, as_json: bool) -> None:
    """Keys in force: those issued, and the tenant's key of the settings."""
    rows = key_rows(project, tenant, read_history(project.settings, known_tenant(project.settings, tenant)))
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("key", "name", "scopes", "ends in", "issued", "by", "requests/s", "events/s"):
        table.add_column(column)
    for row in rows:
        issued_at = row["issued_at"]
        table.add_row(
            row["key_id"],
            row["name"],
            ", ".join(row["scopes"]),
            row["hint"],
            f"{issued_at.astimezone():%Y-%m-%d %H:%M}" if issued_at else "",
            row["issued_by"],
            *(_tell_rate(row[name]) for name in ("max_requests_per_s", "max_events_per_s")),
        )
    Console(highlight=False).print(table)


@keys.command()
@click.argument("key_id")
@tenant_option
@click.pass_obj
def revoke(project: Project, key_id: str, tenant: str) -> None:
    """Make a key void."""
    known_tenant(project.settings, tenant)
    if key_id == _SETTINGS:
        raise click.UsageError(
            f"the key of the settings is in force as long as tenants.{tenant}.key holds it: take it out "
            "there, and start the processes anew"
        )

    def order(history: History) -> tuple[Struct, str]:
        known = history.state.keys
        if key_id not in known:
            raise click.UsageError(
                f"tenant {tenant!r} has no key {key_id!r} in force; there are: {', '.join(known) or 'none'}"
            )
        return KeyRevoked(key_id=key_id), ""

    carry_out(project.settings, tenant, order)
    click.echo(f"Key {key_id} is void.")


def key_rows(project: Project, tenant: str, history: History) -> list[dict[str, Any]]:
    """The tenant's keys in force, without what would open anything; the settings' first."""
    rows: list[dict[str, Any]] = [describe_key(issued) for issued in history.state.keys.values()]
    if project.settings.tenants[tenant].key:
        rows.insert(
            0,
            {
                "key_id": _SETTINGS,
                "scopes": DEFAULT_SCOPES,
                "name": f"tenants.{tenant}.key",
                "hint": "",
                "issued_by": "",
                "issued_at": None,
                "max_requests_per_s": None,
                "max_events_per_s": None,
            },
        )
    return rows


def _tell_rate(rate: float | None) -> str:
    return "" if rate is None else "no limit" if rate == 0 else f"{rate:g}"
