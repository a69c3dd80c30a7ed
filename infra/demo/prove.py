"""`python -P -m infra.demo.prove`: three seeds of each control, one file a run, and the table for the README.

Resumable: a run whose file is there is not run again; remove a file to repeat its run.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, get_args

import msgspec
from rich.console import Console

from infra.demo.customers import Control
from infra.demo.figures import shown, shown_difference
from infra.demo.report import Report

SEEDS: Final = (1, 2, 3)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, then print all nine results as they are. Exit code 1 if a run failed."""
    parser = argparse.ArgumentParser(prog="prove", description=__doc__)
    parser.add_argument("--directory", type=Path, default=Path("var/prove"), help="default var/prove")
    parser.add_argument("--table", action="store_true", help="only print the table of what is there")
    asked = parser.parse_args(arguments)
    directory: Path = asked.directory.resolve()
    directory.mkdir(parents=True, exist_ok=True)
    runs = [(control, seed) for seed in SEEDS for control in get_args(Control)]
    failed = []
    if not asked.table:
        failed = [run for run in runs if not _file_of(directory, *run).exists() and not _run(directory, *run)]
    print_table(read_reports(directory), Console(highlight=False))
    if failed:
        names = ", ".join(f"{control}-{seed}" for control, seed in failed)
        print(f"prove: {len(failed)} runs failed: {names}; start it again to repeat them", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _file_of(directory: Path, control: str, seed: int) -> Path:
    return directory / f"{control}-{seed}.json"


def _run(directory: Path, control: str, seed: int) -> bool:
    """Whether the run gave a report; its stack's directory is removed then, its log stays."""
    place = directory / f"{control}-{seed}"
    command = [sys.executable, "-P", "-m", "infra.demo", "--seed", str(seed), "--control", control]
    done = subprocess.run([*command, "--directory", str(place)], check=False)
    if done.returncode == 130:
        sys.exit(130)
    if done.returncode != 0:
        return False
    (place / "report.json").replace(_file_of(directory, control, seed))
    shutil.rmtree(place)
    return True


def read_reports(directory: Path) -> list[Report]:
    """The reports that are there, by control and seed."""
    paths = [_file_of(directory, control, seed) for control in get_args(Control) for seed in SEEDS]
    return [msgspec.json.decode(path.read_bytes(), type=Report) for path in paths if path.exists()]


def print_table(reports: Sequence[Report], console: Console) -> None:
    """A table in Markdown, a run a row, figures as they came."""
    rows = [
        "| control | seed | alarmed | promoted | nDCG@10 moved, before | after | difference [95 %] "
        "| unmoved | never seen | canary, reciprocal rank | minutes | GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    rows += [_row(report) for report in reports]
    for row in rows:
        console.print(row, markup=False, soft_wrap=True)


def _row(report: Report) -> str:
    quality, metric = report.quality, "ndcg@10"
    unseen = report.slices["unseen"].difference.get(metric) if "unseen" in report.slices else None
    cells = [
        report.control,
        str(report.seed),
        "yes" if report.alarmed else "no",
        f"yes, {report.after_version}" if report.promoted else "no",
        shown(quality.before[metric]),
        shown(quality.after[metric]),
        shown_difference(quality.difference[metric]),
        shown_difference(quality.unmoved_difference[metric]),
        shown_difference(unseen),
        shown_difference(report.canary.difference.get(report.canary.decided_by)),
        f"{(report.seconds['total'] or 0) / 60:.1f}",
        f"{report.peak_memory_bytes / 1e9:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
