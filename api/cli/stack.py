"""`ratchet up`, `status`, `down`."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.alerts import read_alerts
from api.cli.lag import read_lag
from api.cli.project import LOCAL_TENANT, Project, http_url
from infra.local.control import StackEvent, StackStatus
from infra.local.stack import down as stop_stack
from infra.local.stack import status as stack_status
from infra.local.stack import up as start_stack

if TYPE_CHECKING:
    from api.http.alerts import ShownAlerts

_COLOURS = {"running": "green", "starting": "yellow", "backoff": "yellow", "failed": "red", "stopped": "dim"}


@click.command()
@click.option(
    "--no-learn", is_flag=True, help="Without search and learner (the extra `learn` is not needed then)."
)
@click.option("--tied", is_flag=True, help="Stay, and stop everything when standard input closes.")
@click.pass_obj
def up(project: Project, no_learn: bool, tied: bool) -> None:
    """Start everything in order and keep it running; return when all is ready."""
    from api.cli.local_stack import can_learn, local_stack
    from api.cli.upgrade import upgrade

    learn = not no_learn
    if learn and not can_learn():
        raise click.ClickException(
            "search and learner need the extra `learn`: install ratchet-platform[local,learn], "
            "or start without them: `ratchet up --no-learn`"
        )
    console = Console(stderr=True, highlight=False)
    upgrade(project, console)
    spec = local_stack(project, learn=learn)
    running = start_stack(spec, _printer(console), tied=tied)
    console.print(
        f"ready: {project.settings.api.host}:{project.settings.api.port} · `ratchet status` shows everything"
    )
    if tied:
        with running:
            sys.stdin.buffer.read()


@click.command()
@click.pass_obj
def down(project: Project) -> None:
    """Stop each process after those that depend on it; what was accepted is kept."""
    stop_stack(project.data, _printer(Console(stderr=True, highlight=False)))


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For scripts: addresses, keys, processes.")
@click.pass_obj
def status(project: Project, as_json: bool) -> None:
    """What runs, since when, healthy, and how far the worker is behind. Exit code 1 if not all is healthy."""
    stack = stack_status(project.data)
    lag = read_lag(project.settings) if stack.supervisor_pid is not None else None
    alerts = read_alerts(project.settings) if stack.supervisor_pid is not None else None
    if as_json:
        click.echo(
            msgspec.json.format(msgspec.json.encode(describe(project, stack, lag, alerts)), indent=2).decode()
        )
    else:
        _print_status(stack, lag)
        if stack.supervisor_pid is not None:
            _print_alerts(alerts)
    sys.exit(0 if stack.healthy else 1)


def describe(
    project: Project, stack: StackStatus, lag: int | None, alerts: ShownAlerts | None = None
) -> dict[str, Any]:
    """What `status --json` prints; scripts rely on these names."""
    settings = project.settings
    tenant = settings.tenants.get(LOCAL_TENANT)
    return {
        "directory": stack.directory,
        "healthy": stack.healthy,
        "since": stack.since,
        "lag_events": lag,
        "alerts": None if alerts is None else msgspec.to_builtins(alerts.alerts),
        "api": {
            "url": http_url(settings.api),
            "key": tenant.key if tenant else "",
        },
        "search": {"url": http_url(settings.search_http)},
        "clickhouse": {
            "url": settings.clickhouse.url,
            "user": settings.clickhouse.analyst_user,
            "password": settings.clickhouse.analyst_password,
        },
        "kafka": {"bootstrap": settings.kafka.bootstrap},
        "processes": [
            {
                "name": p.name,
                "pid": p.pid,
                "state": p.state,
                "since": p.since,
                "ready": p.ready,
                "restarts": p.restarts,
                "log": p.log,
                "reason": p.reason,
            }
            for p in stack.processes
        ],
        "leftovers": list(stack.leftovers),
    }


def _print_status(stack: StackStatus, lag: int | None) -> None:
    console = Console(highlight=False)
    if stack.supervisor_pid is None:
        console.print(Text(f"no stack runs in {stack.directory}: `ratchet up` starts one"))
    table = Table(box=None, pad_edge=False)
    for column in ("process", "state", "since", "pid", "ready", "restarts", "why"):
        table.add_column(column)
    for p in stack.processes:
        table.add_row(
            p.name,
            Text(p.state, _COLOURS[p.state]),
            _ago(p.since),
            str(p.pid or "–"),
            "yes" if p.ready else "no",
            str(p.restarts),
            Text(p.reason),
        )
    if stack.processes:
        console.print(table)
    if lag is not None:
        console.print(f"lag: {lag:,} events acknowledged but not yet in ClickHouse")


def _print_alerts(alerts: ShownAlerts | None) -> None:
    console = Console(highlight=False)
    if alerts is None or alerts.evaluated_at is None:
        console.print("alerts: not known, the process `alerts` does not answer (yet)")
        return
    if not alerts.alerts:
        console.print(f"alerts: none, as of {_ago(alerts.evaluated_at)}")
    for one in alerts.alerts:
        colour = "red" if one.severity == "critical" else "yellow"
        console.print(
            Text.assemble(
                (one.severity, colour), f" {one.alert}: {one.summary}, {_ago(one.since)}; see {one.runbook}"
            )
        )


def _ago(since: dt.datetime) -> str:
    seconds = int((dt.datetime.now(dt.UTC) - since).total_seconds())
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def _printer(console: Console) -> Callable[[StackEvent], None]:
    def show(event: StackEvent) -> None:
        time = f"{event.time.astimezone():%H:%M:%S}"
        console.print(Text.assemble((time, "dim"), f" {event.process:<11}{event.text}"))

    return show
