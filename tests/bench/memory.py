"""Memory at rest: proportional set size, so that a shared page is counted once."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
from msgspec import Struct

from tests.bench.figures import Figure, Result
from tests.bench.stack import Stack, running_stack


class Sizes(Struct, frozen=True):
    """How often and after how long."""

    samples: int
    rest_s: float


FULL = Sizes(5, 30.0)
QUICK = Sizes(1, 1.0)


def measure(*, quick: bool) -> Result:
    """One stack without search and learner, one with them; both left alone for a while."""
    sizes = QUICK if quick else FULL
    with running_stack("memory") as stack:
        small = _at_rest(stack, sizes)
    with running_stack("memory-learn", learn=True) as stack:
        whole = _at_rest(stack, sizes)
    return Result(
        name="memory",
        figures=(
            Figure(
                name="memory at rest, without learner and search",
                unit="MB",
                target=1600,
                better="lower",
                values=tuple(sum(sample.values()) / 1e6 for sample in small),
            ),
            Figure(
                name="memory of the idle learner",
                unit="MB",
                target=500,
                better="lower",
                values=tuple(sample["learner"] / 1e6 for sample in whole),
            ),
        ),
        details={"small_bytes": small[-1], "whole_bytes": whole[-1]},
    )


def _at_rest(stack: Stack, sizes: Sizes) -> list[dict[str, int]]:
    time.sleep(sizes.rest_s)
    samples = []
    for _ in range(sizes.samples):
        samples.append(_pss_bytes(stack.pids()))
        time.sleep(1.0)
    return samples


def _pss_bytes(pids: dict[str, int]) -> dict[str, int]:
    """By process, children with their parents; the supervisor without the processes of the stack."""
    trees = {
        name: {pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))}
        for name, pid in pids.items()
    }
    others = set().union(*(tree for name, tree in trees.items() if name != "supervisor"))
    trees["supervisor"] -= others
    return {name: sum(_pss_of(pid) for pid in tree) for name, tree in trees.items()}


def _pss_of(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):  # a child that has just ended
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
