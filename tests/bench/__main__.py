"""`python -P -m tests.bench [name …]`: the figures, into var/bench/<name>.json, and as a table.

Each bench starts real stacks of its own in a directory below var/bench and stops them in any case; it never
meets a stack that runs elsewhere. --quick shows that everything works, with sizes that measure nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from typing import Final

from rich.console import Console

from tests.bench.figures import Result, machine, print_table, save
from tests.bench.stack import OUTPUT, BenchError

BENCHES: Final = ("ingest", "fold", "visible", "rebuild", "state", "workers", "sizes", "answers", "memory")


def main() -> int:
    """Run the benches that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -P -m tests.bench")
    parser.add_argument("names", nargs="*", metavar="name", help=f"one of {', '.join(BENCHES)}; all if none")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: do the benches work?")
    options = parser.parse_args()
    if unknown := sorted(set(options.names) - set(BENCHES)):
        parser.error(f"no bench {', '.join(unknown)}: there are {', '.join(BENCHES)}")
    console = Console(highlight=False)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    results: list[Result] = []
    for name in options.names or BENCHES:
        before = machine()
        busy = before["load_average_1min"]
        console.print(f"[bold]{name}[/] … (load average before it: {busy:.2f})")
        started = time.perf_counter()
        try:
            result: Result = importlib.import_module(f"tests.bench.{name}").measure(quick=options.quick)
        except BenchError as error:
            console.print(f"[red]bench {name} could not be run:[/] {error}")
            return 2
        path = save(result, OUTPUT, quick=options.quick, before=before)
        for who, cores in result.cores_used.items():
            console.print(f"  {who}: {cores:.2f} cores")
        console.print(f"  {time.perf_counter() - started:.0f} s; details in {path}")
        results.append(result)
    print_table(results, quick=options.quick)
    return 0  # a figure that is missed is a result, and the table shows it


if __name__ == "__main__":
    sys.exit(main())
