"""Fold and write by one worker, on an empty store: ids that follow time, and ids as clients make them up."""

from __future__ import annotations

from msgspec import Struct

from tests.bench.figures import Figure, Result
from tests.bench.folding import Load, Round, fold_round
from tests.bench.plain_consumer import Consumed
from tests.bench.stack import command_text, run_program, running_stack

SKETCH = "aiokafka getmany, msgspec decode, one plain insert a batch; no fold, no commit"


class Sizes(Struct, frozen=True):
    """How much is folded."""

    repetitions: int
    requests: int


FULL = Sizes(3, 1000)
QUICK = Sizes(1, 30)


def measure(*, quick: bool) -> Result:
    """Rounds of both kinds of ids, then the sketch over the same topic."""
    sizes = QUICK if quick else FULL
    timed, random = Load(sizes.requests), Load(sizes.requests, "random")
    rounds: dict[str, list[Round]] = {"time": [], "random": []}
    with running_stack("fold") as stack:
        for load in (timed, random):
            rounds[load.ids] = [fold_round(stack, load) for _ in range(sizes.repetitions)]
        store = stack.clickhouse
        sketches = [
            run_program(
                "tests.bench.plain_consumer",
                *("--bootstrap", stack.bootstrap, "--store", store.url, "--user", store.user),
                *("--password", store.password, "--table", f"sketch.fold_{number}"),
                into=Consumed,
            )
            for number in range(sizes.repetitions)
        ]
    figures = tuple(
        Figure(
            name=f"fold and write, until the last row is visible, {what}",
            unit="events/s",
            target=target,
            better="higher",
            values=tuple(one.events / one.seconds for one in rounds[ids]),
            sketch=tuple(one.events / one.seconds for one in sketches),
            sketch_is=SKETCH,
        )
        for ids, what, target in (("time", "time-ordered ids", 6000), ("random", "random ids", 3000))
    )
    return Result(
        name="fold",
        figures=figures,
        commands=tuple(
            command_text("tests.bench.load", *load.arguments("URL", "KEY")) for load in (timed, random)
        ),
        cores_used={
            f"worker, {ids} ids": ones[-1].worker_cpu_s / ones[-1].seconds for ids, ones in rounds.items()
        }
        | {"sketch": sketches[-1].cpu_s / sketches[-1].seconds},
        details={"rounds": rounds, "sketches": sketches},
    )
