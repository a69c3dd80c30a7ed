"""What the learner writes of a canary, on a lifecycle in memory: measurements, then a verdict."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import msgspec
import numpy as np

from learners.daemon.journal import Journal
from learners.daemon.rolling import RollingSteps
from learners.memory import MemoryLifecycleLog
from learners.ports import ExperimentUnits, UnitMeasure
from learners.settings import LearnerSettings
from learners.steps import LookAtRollout
from schemas.codec import seal_event
from schemas.lifecycle import RolloutStarted
from schemas.serving import CHALLENGER_ARM, CHAMPION_ARM
from streams.columns import lifecycle_columns
from streams.records import Arrival
from tests.lifecycle_events import START, rollout, whole_story


class Units:
    """Units of two arms with the rates that a test sets."""

    def __init__(self) -> None:
        self.rates = {CHAMPION_ARM: 0.5, CHALLENGER_ARM: 0.5}

    async def __call__(self, tenant: str, experiment: str, measures: Sequence[str]) -> ExperimentUnits:
        rng = np.random.default_rng(3)
        rows = tuple(
            UnitMeasure(unit=f"{arm}{n}", arm=arm, queries=1, total=float(rng.random() < rate))
            for arm, rate in self.rates.items()
            for n in range(600)
        )
        return ExperimentUnits(
            measures=dict.fromkeys(measures, rows),
            exposed=dict.fromkeys(self.rates, 600),
            excluded_units=0,
            offsets={},
        )


async def test_a_canary_is_measured_now_and_then_and_ends_with_the_figures_it_was_decided_on() -> None:
    lifecycle, units = MemoryLifecycleLog(), Units()
    plan: RolloutStarted = msgspec.structs.replace(
        rollout(), guardrails={}, deadline=START + dt.timedelta(days=300)
    )
    for event in whole_story()[:11]:
        await lifecycle.append(event)
    started = seal_event(plan, id="o1", source="learner", tenant="acme", recordedtime=START, causationid="j1")
    await lifecycle.append(started)
    clock = [START + dt.timedelta(days=200)]
    rolling = RollingSteps(
        LearnerSettings(measure_interval_s=60), Journal(lifecycle, lambda: clock[0]), units
    )

    async def look() -> None:
        state = await lifecycle.state("acme")
        assert state.rollout is not None
        await rolling.look("acme", LookAtRollout(state.rollout))

    before = len(lifecycle.records)
    await look()
    clock[0] += dt.timedelta(seconds=1)
    await look()  # not due
    clock[0] += dt.timedelta(seconds=60)
    await look()
    assert len(lifecycle.records) == before + 2
    units.rates = {CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.6}
    clock[0] += dt.timedelta(seconds=1)
    await look()

    written = lifecycle.events()[before:]
    assert [event.type for event in written] == ["ratchet.experiment.measured.v1"] * 3 + [
        "ratchet.version.promoted.v1"
    ]
    assert len({event.id for event in written}) == 4
    assert all(outcome.accepted for outcome in lifecycle.outcomes)
    assert (await lifecycle.state("acme")).champion == "1.1.0"
    # what the learner writes fits the store's columns, also months after the start
    arrivals = [Arrival(event, b"", "lifecycle", 0, n) for n, event in enumerate(written)]
    assert len(lifecycle_columns(arrivals, [""] * 4)["attempt"]) == 4
