"""`ratchet chaos`: break a stack of its own under load, then count."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import msgspec
from rich.console import Console

from api.cli.project import LOCAL_TENANT, LocalPorts, Project, http_url

if TYPE_CHECKING:
    from infra.chaos.place import Place
    from infra.chaos.scene import Scene

#: A process that crashes after this long begins a new row of restarts: here every crash is from outside.
_STABLE_S: Final = 3.0
_SETTINGS: Final = """\
# Written by `ratchet chaos`, which removes it.
[clickhouse]
url = "http://127.0.0.1:{proxy}"

[watch]
# Learner and search are here to be killed, not to train.
reference_queries = 1000000
"""


@click.command()
@click.option("--kills", type=click.IntRange(1), default=50, show_default=True, help="kill -9, at least.")
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write the report here."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the order of faults, and of events.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="No new fault after this long.")
@click.option("--clients", type=click.IntRange(1, 32), default=3, show_default=True, help="Client processes.")
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=150.0,
    show_default=True,
    help="Events a second, of all clients.",
)
@click.option("--only-kills", is_flag=True, help="No pauses, full disks, slow stores or moved partitions.")
@click.option("--no-learn", is_flag=True, help="Without search and learner.")
@click.option(
    "--scratch",
    type=click.Path(path_type=Path, file_okay=False),
    help="An empty or new directory, kept afterwards. Default: a temporary one, kept if anything is wrong.",
)
def chaos(
    kills: int,
    json_path: Path | None,
    seed: int,
    minutes: float | None,
    clients: int,
    rate: float,
    only_kills: bool,
    no_learn: bool,
    scratch: Path | None,
) -> None:
    """Start a stack of its own, break it under load in every way we know, and count what is left.

    Your project is not touched: everything happens in a scratch directory. Processes are killed with -9,
    alone and together, and paused; disks fill up; ClickHouse gets slow and refuses; partitions move between
    two workers. What clients know to be acknowledged is then compared with the tables, in both directions,
    and the tables with a clean rebuild. Exit code 1 if anything is lost, doubled, different or left behind.
    """
    from api.cli.local_stack import can_learn
    from infra.chaos.place import Place
    from infra.chaos.report import print_report, write_report
    from infra.chaos.run import ChaosPlan, run_chaos

    # settings of the caller's own stack must not reach this one
    for name in [name for name in os.environ if name.startswith("RATCHET_")]:
        del os.environ[name]
    plan = ChaosPlan(
        kills=kills,
        seed=seed,
        limit_s=None if minutes is None else minutes * 60.0,
        clients=clients,
        events_per_s=rate,
        misfortunes=not only_kills,
    )
    console = Console(stderr=True, highlight=False)
    place = Place(scratch or Path(tempfile.mkdtemp(prefix="ratchet-chaos-")))
    learn = can_learn() and not no_learn
    with place.taken():
        console.print(f"in {place.directory}, seed {seed}", style="dim", markup=False)
        report = asyncio.run(run_chaos(plan, make_scene(place, learn=learn), place, console))
    if json_path is not None:
        write_report(report, json_path)
    print_report(report, Console(highlight=False))
    if scratch is None and report.passed:
        place.remove()
    elif not report.passed:
        console.print(f"logs and what the clients know are in {place.directory}", markup=False)
    sys.exit(0 if report.passed else 1)


def make_scene(place: Place, *, learn: bool) -> Scene:
    """A scratch project in `place`, with a proxy between its worker and its engine. Starts nothing."""
    from api.cli.local_stack import local_stack
    from infra.chaos.scene import Scene
    from infra.local.spec import HttpReady, ProcessSpec, RestartPolicy
    from infra.local.tcp_ports import allocate_ports

    project = Project(place.project)
    project.make_secrets()
    names = (*(field.name for field in msgspec.structs.fields(LocalPorts)), "proxy", "second_worker")
    ports = allocate_ports(project.data, names)
    (place.second / "var").mkdir()
    written = _SETTINGS.format(proxy=ports["proxy"])
    for directory in (place.project, place.second):
        (directory / "ratchet.toml").write_text(written, encoding="utf-8")
    stack = local_stack(project, learn=learn)
    settings = project.settings
    engine_url = f"http://127.0.0.1:{ports['clickhouse']}"

    def behind_proxy(process: ProcessSpec) -> ProcessSpec:
        if process.name != "clickhouse":
            return process
        return msgspec.structs.replace(
            process,
            env=process.env | {"RATCHET_CLICKHOUSE__URL": engine_url},
            ready=HttpReady(f"{engine_url}/readyz"),
        )

    worker = next(process for process in stack.processes if process.name == "streams")
    second_url = f"http://127.0.0.1:{ports['second_worker']}"
    return Scene(
        stack=msgspec.structs.replace(
            stack,
            processes=tuple(map(behind_proxy, stack.processes)),
            ports=stack.ports | {"clickhouse": ports["clickhouse"]},
            # a crash is a crash from outside, however many there were: no process is given up
            restart=RestartPolicy(max_restarts=1_000, stable_s=_STABLE_S, max_delay_s=2.0),
        ),
        tenant=LOCAL_TENANT,
        api_url=http_url(settings.api),
        api_key=settings.tenants[LOCAL_TENANT].key,
        store_url=settings.clickhouse.url,
        analyst_user=settings.clickhouse.analyst_user,
        analyst_password=settings.clickhouse.analyst_password,
        proxy_port=ports["proxy"],
        engine_port=ports["clickhouse"],
        second_worker=msgspec.structs.replace(
            worker,
            argv=(*worker.argv[:-1], str(place.second)),
            env=worker.env
            | {
                "RATCHET_STREAMS__INSTANCE": "worker-of-chaos",
                "RATCHET_STREAMS_HTTP__PORT": str(ports["second_worker"]),
            },
            cwd=str(place.second),
            ready=HttpReady(f"{second_url}/readyz"),
        ),
        command=(sys.executable, "-P", "-m", "api.cli", "-C", str(place.project)),
        session_timeout_s=settings.streams.session_timeout_s,
    )
