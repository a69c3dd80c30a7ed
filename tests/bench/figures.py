"""A figure with its target, what was measured, and where it is kept: `var/bench/<name>.json`."""

from __future__ import annotations

import datetime as dt
import os
import platform
import statistics
from importlib.metadata import version
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

_PACKAGES: Final = (
    "aiokafka", "chdb", "clickhouse-connect", "faust-streaming", "granian", "litestar", "msgspec",
    "ratchet-platform", "sentence-transformers", "torch", "uvloop",
)  # fmt: skip


class Figure(Struct, frozen=True, kw_only=True):
    """One figure: its values over the repetitions, beside the same by a plain sketch in the same run."""

    name: str
    unit: str
    target: float
    better: Literal["higher", "lower"]
    values: tuple[float, ...]
    #: What a plain program does in this figure's place; empty if there is none to compare with.
    sketch: tuple[float, ...] = ()
    #: What the sketch is.
    sketch_is: str = ""

    @property
    def median(self) -> float:
        """Median of the repetitions."""
        return statistics.median(self.values)

    @property
    def met(self) -> bool:
        """Whether the median reaches the target."""
        return self.median >= self.target if self.better == "higher" else self.median <= self.target


class Result(Struct, frozen=True, kw_only=True):
    """What one bench found. `details`: whatever else explains the figures."""

    name: str
    figures: tuple[Figure, ...]
    #: Commands that made the load; anyone can run them again against a stack of their own.
    commands: tuple[str, ...] = ()
    #: Who used how many cores while a figure was taken, the generator among them.
    cores_used: dict[str, float] = {}
    details: dict[str, object] = {}


def machine() -> dict[str, object]:
    """Where this runs, and how busy it was."""
    cpu = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    return {
        "cpu": cpu,
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "load_average_1min": os.getloadavg()[0],
    }


def save(result: Result, directory: Path, *, quick: bool, before: dict[str, object]) -> Path:
    """Write a result with machine and versions; `before`: the machine as it was when the bench began."""
    path = directory / f"{result.name}.json"
    written = {
        "name": result.name,
        "time": dt.datetime.now(dt.UTC),
        "quick": quick,
        "machine": before,
        "versions": {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        "commands": result.commands,
        "figures": [
            msgspec.to_builtins(figure)
            | {
                "repetitions": len(figure.values),
                "median": figure.median,
                "spread": [min(figure.values), max(figure.values)],
                "sketch_median": statistics.median(figure.sketch) if figure.sketch else None,
                "met": figure.met,
            }
            for figure in result.figures
        ],
        "cores_used": result.cores_used,
        "details": result.details,
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(written), indent=2) + b"\n")
    return path


def print_table(results: list[Result], *, quick: bool) -> None:
    """Figure, target, measured with its spread, sketch."""
    title = "quick run: sizes are too small for the figures to mean anything" if quick else None
    table = Table(title=title, box=None, pad_edge=False)
    for column in ("figure", "target", "measured", "spread", "met", "plain sketch"):
        table.add_column(column, justify="left" if column in ("figure", "met") else "right")
    for figure in (figure for result in results for figure in result.figures):
        sign = "≥" if figure.better == "higher" else "≤"
        table.add_row(
            f"{figure.name} [dim]{figure.unit}[/]",
            f"{sign} {_short(figure.target)}",
            _short(figure.median),
            f"{_short(min(figure.values))} – {_short(max(figure.values))}",
            "[green]yes[/]" if figure.met else "[red]no[/]",
            _short(statistics.median(figure.sketch)) if figure.sketch else "–",
        )
    Console(highlight=False).print(table)


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 100 else f"{number:.3g}"
