"""What a run was like: the JSON, and the table for a person."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from infra.chaos.compare import Counts

#: Seconds within which a process is to be back after a kill that nothing else overlapped.
TARGETS_S: Final = {"kill streams": 10.0, "kill api": 3.0}
_PACKAGES: Final = (
    "ratchet-platform",
    "faust-streaming",
    "aiokafka",
    "chdb",
    "clickhouse-connect",
    "granian",
)


class Struck(Struct, frozen=True, kw_only=True):
    """A fault that was done."""

    kind: str
    #: Seconds from the start of the load to the blow.
    at_s: float
    #: Of a kill: seconds until what was hit was ready again. Of what lasts (a pause, a full disk): seconds
    #: from its end until an event that was sent then was visible.
    recovery_s: float
    #: Nothing else was broken meanwhile: the time is its own.
    alone: bool


class Report(Struct, frozen=True, kw_only=True):
    """A run. `passed` is what the exit status says."""

    passed: bool
    seed: int
    kills: int
    faults: tuple[Struck, ...]
    events: Counts
    #: A rebuild from the log gave the same tables, by its own hashes and by ours.
    rebuild_identical: bool
    #: Processes of the stack that were nobody's children, after any start of a supervisor or at the end.
    orphan_processes: int
    #: How the disk was made full.
    full_disk: str
    #: What happened to the store's connections.
    slow_and_refusing_store: str
    #: Lone kills that took longer than their target.
    over_target: tuple[Struck, ...]
    clients: int
    #: Of the load, the faults in it.
    load_s: float
    duration_s: float
    restart_delay_s: float
    versions: dict[str, str]


def over_target(faults: Sequence[Struck]) -> tuple[Struck, ...]:
    """Lone kills that took longer than their target."""
    return tuple(f for f in faults if f.alone and f.recovery_s > TARGETS_S.get(f.kind, float("inf")))


def installed_versions() -> dict[str, str]:
    """Of what was broken."""
    found = {"python": platform.python_version(), "kernel": platform.release()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_report(report: Report, path: Path) -> None:
    """As JSON, for people to read. Raises OSError."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")


def print_report(report: Report, console: Console) -> None:
    """Recovery by kind of fault, then the count."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what was broken")
    for column in ("times", "back in: median", "slowest", "alone: slowest", "target"):
        table.add_column(column, justify="right")
    for kind in sorted({fault.kind for fault in report.faults}):
        times = [fault.recovery_s for fault in report.faults if fault.kind == kind]
        alone = [fault.recovery_s for fault in report.faults if fault.kind == kind and fault.alone]
        target = TARGETS_S.get(kind)
        table.add_row(
            kind,
            str(len(times)),
            f"{median(times):.1f} s",
            f"{max(times):.1f} s",
            f"{max(alone):.1f} s" if alone else "–",
            f"< {target:g} s" if target else "",
        )
    console.print(table)
    counts = report.events
    console.print(
        f"{counts.sent:,} events sent in {counts.requests:,} requests, {counts.acknowledged:,} acknowledged, "
        f"{counts.stored:,} stored, {counts.conflicts:,} conflicts, {counts.refused:,} refused; "
        f"{counts.unconfirmed_but_stored:,} stored that nobody had confirmed"
    )
    for name in ("lost", "doubled", "never_sent", "displaced", "answers_out_of_place"):
        number = getattr(counts, name)
        colour = "red" if number else "green"
        console.print(f"[{colour}]{number:,}[/] {name.replace('_', ' ')}")
        for example in counts.examples.get(name, ()):
            console.print(f"  {example}", markup=False)
    same = "[green]identical[/]" if report.rebuild_identical else "[red]different[/]"
    orphans = f"[{'red' if report.orphan_processes else 'green'}]{report.orphan_processes}[/]"
    console.print(f"a rebuild from the log is {same}; {orphans} processes left behind")
    console.print(f"{report.kills} kills, seed {report.seed}, full disk: {report.full_disk}", style="dim")
