"""From a 202 until the event can be seen in `ratchet.events`, at 2,000 events/s."""

from __future__ import annotations

from msgspec import Struct

from tests.bench.figures import Figure, Result
from tests.bench.probe import Seen
from tests.bench.stack import Stack, command_text, run_program, running_program, running_stack

RATE = 2000
SKETCH = "a plain consumer with one insert a batch beside the worker, seen in its own table"


class Sizes(Struct, frozen=True):
    """How long."""

    repetitions: int
    seconds: int


FULL = Sizes(3, 60)
QUICK = Sizes(1, 3)


def measure(*, quick: bool) -> Result:
    """Probe the promised view; then the sketch's table, filled from the same topic."""
    sizes = QUICK if quick else FULL
    with running_stack("visible") as stack:
        _probe(stack, 3)  # nobody's first requests count
        seen = [_probe(stack, sizes.seconds) for _ in range(sizes.repetitions)]
        store = stack.clickhouse
        with running_program(
            "tests.bench.plain_consumer",
            *("--bootstrap", stack.bootstrap, "--store", store.url, "--user", store.user),
            *("--password", store.password, "--table", "sketch.visible", "--follow"),
        ):
            sketch = [_probe(stack, sizes.seconds, "sketch.visible") for _ in range(sizes.repetitions)]
    return Result(
        name="visible",
        figures=(
            Figure(
                name="accepted to seen at 2,000 events/s, p50",
                unit="s",
                target=0.7,
                better="lower",
                values=tuple(one.delay.p50_ms / 1000 for one in seen),
                sketch=tuple(one.delay.p50_ms / 1000 for one in sketch),
                sketch_is=SKETCH,
            ),
            Figure(
                name="accepted to seen at 2,000 events/s, p99",
                unit="s",
                target=2.0,
                better="lower",
                values=tuple(one.delay.p99_ms / 1000 for one in seen),
                sketch=tuple(one.delay.p99_ms / 1000 for one in sketch),
                sketch_is=SKETCH,
            ),
        ),
        commands=(
            command_text(
                "tests.bench.probe",
                *(
                    "--url",
                    "URL",
                    "--key",
                    "KEY",
                    "--store",
                    "URL",
                    "--user",
                    "USER",
                    "--password",
                    "PASSWORD",
                ),
                *("--rate", str(RATE), "--seconds", str(sizes.seconds)),
            ),
        ),
        cores_used={"generator and poller": seen[-1].cpu_s * RATE / seen[-1].sent},
        details={"runs": seen, "sketches": sketch},
    )


def _probe(stack: Stack, seconds: int, table: str = "") -> Seen:
    """`table`: the sketch's, which only the writer's account may read; else the view, as an analyst."""
    store = stack.clickhouse
    account = (store.user, store.password) if table else (store.analyst_user, store.analyst_password)
    return run_program(
        "tests.bench.probe",
        *("--url", stack.api_url, "--key", stack.key, "--store", store.url),
        *("--user", account[0], "--password", account[1], "--table", table or "ratchet.events"),
        *("--rate", str(RATE), "--seconds", str(seconds)),
        into=Seen,
    )
