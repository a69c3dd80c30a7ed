"""`python -P -m tests.bench.peers`: feedback to Ratchet, Phoenix and MLflow, what of it survives a kill -9.

Peers come from PyPI into environments of their own below var/peers, which needs `uv` and the network once.
Each system runs alone, in a fresh directory, as its own documentation starts it; all get the same feedback,
from one generator over the same number of connections. Prints a table and writes var/bench/peers.json.
"""

from __future__ import annotations

import argparse
import datetime as dt
import platform
import shlex
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import msgspec
from rich.console import Console
from rich.table import Table

from tests.bench.figures import machine
from tests.bench.peers.mlflow import running_mlflow
from tests.bench.peers.phoenix import running_phoenix
from tests.bench.peers.ratchet import running_ratchet
from tests.bench.peers.runs import Outcome, Sizes, measure
from tests.bench.peers.system import System
from tests.bench.stack import OUTPUT, BenchError

SYSTEMS: Final[dict[str, Callable[[Path], AbstractContextManager[System]]]] = {
    "ratchet": lambda _: running_ratchet(),
    "phoenix": running_phoenix,
    "mlflow": running_mlflow,
}
_COLUMNS: Final = 150
#: What the table cannot say.
NOT_COMPARABLE: Final = (
    "A kill -9 of all processes, not a power cut: what a process had handed to the kernel is kept. MLflow's "
    "SQLite writes each piece through to the disk, Phoenix's and Ratchet's Kafka (one node) do not.",
    "Ratchet's rows are counted in its view `events`, behind Kafka and the worker; the peers have one store.",
    "Ratchet also checks each event's key and schema and folds it into the story of its query in the same "
    "time; Phoenix checks the span when it writes the row, MLflow the trace in the request.",
    "MLflow's REST takes one piece a request; it has no form for many.",
    "Ratchet is five processes (a JVM among them), Phoenix one, MLflow four workers and its job runners; the "
    "generator shares the cores with all of them.",
)


def main() -> int:
    """Measure the systems that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench.peers")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(SYSTEMS)}; all if none")
    parser.add_argument(
        "--items",
        type=int,
        default=1000,
        help="pieces of feedback in a run; ten times as many where a request takes 100",
    )
    parser.add_argument("--each", type=int, choices=(1, 100), help="only the forms of so many a request")
    parser.add_argument("--targets", type=int, default=200, help="queries that they are about")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--repetitions", type=int, default=1, help="of each run, each with a kill of its own")
    parser.add_argument(
        "--quiet-s", type=float, default=15.0, help="a count that stays for so long is taken as final"
    )
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(SYSTEMS)):
        parser.error(f"no system {', '.join(unknown)}: there are {', '.join(SYSTEMS)}")
    sizes = Sizes(
        items=options.items,
        items_in_batches=10 * options.items,
        targets=options.targets,
        connections=options.connections,
        repetitions=options.repetitions,
        quiet_s=options.quiet_s,
    )
    console = Console(highlight=False, width=_COLUMNS)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    before = machine()
    console.print(f"load average before it: {before['load_average_1min']:.2f}")
    outcomes: list[Outcome] = []
    versions, setups = {"python": platform.python_version()}, {}
    try:
        for name in options.names or SYSTEMS:
            console.print(f"[bold]{name}[/] …")
            with SYSTEMS[name](OUTPUT) as system:
                versions[system.name], setups[system.name] = system.version(), system.setup
                system.prepare(sizes.targets)
                for form in system.forms:
                    if options.each not in (None, form.each):
                        continue
                    outcomes.append(measure(system, form, sizes))
                    console.print(f"  {form.name}: {outcomes[-1].durable_per_s:,.0f} durable a second")
    except BenchError as error:
        console.print(f"[red]the peers could not be measured:[/] {error}")
        return 2
    console.print(table_of(outcomes, versions))
    for sentence in NOT_COMPARABLE:
        console.print(f"· {sentence}")
    path = OUTPUT / "peers.json"
    written = {
        "name": "peers",
        "time": dt.datetime.now(dt.UTC),
        "machine": before,
        "load_average_after": machine()["load_average_1min"],
        "versions": versions,
        "setups": setups,
        "commands": [shlex.join(["python", "-P", "-m", "tests.bench.peers", *sys.argv[1:]])],
        "sizes": sizes,
        "outcomes": [
            msgspec.to_builtins(outcome)
            | {
                "acknowledged_per_s": outcome.acknowledged_per_s,
                "stored_after_s": outcome.stored_after_s,
                "durable_per_s": outcome.durable_per_s,
                "durable_share": outcome.durable_share,
            }
            for outcome in outcomes
        ],
        "not_comparable": NOT_COMPARABLE,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n")
    console.print(f"details in {path}")
    return 0


def table_of(outcomes: list[Outcome], versions: dict[str, str]) -> Table:
    """One row a form."""
    table = Table(box=None, pad_edge=False)
    for column in (
        *("system", "form", "acknowledged/s", "p99 ms", "readable after s"),
        *("told before kill", "lost", "kept", "durable/s", "restart s"),
    ):
        table.add_column(column, justify="left" if column in ("system", "form") else "right")
    for outcome in outcomes:
        told = sum(run.acknowledged for run in outcome.killed)
        kept = sum(run.stored.kept for run in outcome.killed)
        table.add_row(
            f"{outcome.system} {versions[outcome.system]}",
            outcome.form.name,
            f"{outcome.acknowledged_per_s:,.0f}",
            f"{max(run.latency.p99_ms for run in outcome.undisturbed):,.0f}",
            f"{outcome.stored_after_s:.1f}",
            f"{told:,}",
            f"{told - kept:,}",
            f"{outcome.durable_share:.1%}",
            f"{outcome.durable_per_s:,.0f}",
            f"{max(run.restart_s for run in outcome.killed):.0f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
