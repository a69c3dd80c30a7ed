"""`ratchet rebuild` of a whole log: the command's start, both passes, the comparison and the swap."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time

from msgspec import Struct

from infra.kafka.log import GroupProgress, Progress
from streams.settings import StreamSettings
from tests.bench.figures import Figure, Result
from tests.bench.folding import Load, fold_round
from tests.bench.stack import BenchError, Stack, clean_environment, command_text, running_stack, wait_for


class Sizes(Struct, frozen=True):
    """How much is in the log."""

    repetitions: int
    requests: int


FULL = Sizes(3, 10_000)
QUICK = Sizes(1, 30)


def measure(*, quick: bool) -> Result:
    """Fold a log, then rebuild it, the worker running."""
    sizes = QUICK if quick else FULL
    load = Load(sizes.requests)
    with running_stack("rebuild") as stack:
        events = fold_round(stack, load).events
        wait_for("the worker's commits", lambda: _all_committed(stack), 60.0)
        rebuilds = [_rebuild(stack) for _ in range(sizes.repetitions)]
    return Result(
        name="rebuild",
        figures=tuple(
            Figure(
                name=f"rebuild by one process, {what}",
                unit="events/s",
                target=20_000,
                better="higher",
                values=tuple(events / one for one in seconds),
            )
            for what, seconds in (
                ("both passes", [one.passes_s for one in rebuilds]),
                ("the whole command, the worker's pause and start in it", [one.whole_s for one in rebuilds]),
            )
        ),
        commands=(
            command_text("tests.bench.load", *load.arguments("URL", "KEY")),
            "ratchet rebuild",
        ),
        details={"events": events, "rebuilds": rebuilds},
    )


class Rebuild(Struct, frozen=True):
    """How long one took."""

    #: Reading and folding all of the log, and folding again what came in pieces, as it says itself.
    passes_s: float
    #: From the command's start to its end.
    whole_s: float


def _all_committed(stack: Stack) -> bool:
    progress = asyncio.run(_progress(stack))
    return all(one.committed == one.end for partitions in progress.values() for one in partitions.values())


async def _progress(stack: Stack) -> Progress:
    async with GroupProgress(stack.bootstrap, StreamSettings().group) as group:
        return await group.read()


def _rebuild(stack: Stack) -> Rebuild:
    """One rebuild. Raises BenchError if it does not end with equal tables."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "api.cli", "-C", str(stack.data.parent), "rebuild"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise BenchError(
            f"ratchet rebuild ended with {done.returncode}: {done.stdout[-800:]}{done.stderr[-800:]}"
        )
    said = re.search(r"queries folded in ([0-9.]+) s", done.stdout)
    if said is None:
        raise BenchError(f"ratchet rebuild did not say how long it took: {done.stdout[-800:]}")
    return Rebuild(float(said[1]), seconds)
