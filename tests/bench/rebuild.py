"""`ratchet rebuild` of a whole log: the command's start, both passes, the comparison and the swap."""

from __future__ import annotations

import subprocess
import sys
import time

from msgspec import Struct

from tests.bench.figures import Figure, Result
from tests.bench.folding import Load, fold_round
from tests.bench.stack import BenchError, Stack, clean_environment, command_text, running_stack


class Sizes(Struct, frozen=True):
    """How much is in the log."""

    repetitions: int
    requests: int


FULL = Sizes(3, 3000)
QUICK = Sizes(1, 30)


def measure(*, quick: bool) -> Result:
    """Fold a log, then rebuild it, the worker running."""
    sizes = QUICK if quick else FULL
    load = Load(sizes.requests)
    with running_stack("rebuild") as stack:
        events = fold_round(stack, load).events
        seconds = [_rebuild(stack) for _ in range(sizes.repetitions)]
    return Result(
        name="rebuild",
        figures=(
            Figure(
                name="rebuild by one process, the whole command",
                unit="events/s",
                target=20_000,
                better="higher",
                values=tuple(events / one for one in seconds),
            ),
        ),
        commands=(
            command_text("tests.bench.load", *load.arguments("URL", "KEY")),
            "ratchet rebuild",
        ),
        details={"events": events, "seconds": seconds},
    )


def _rebuild(stack: Stack) -> float:
    """Seconds of one rebuild. Raises BenchError if it does not end with equal tables."""
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
    return seconds
