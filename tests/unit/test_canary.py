"""The canary's rule on simulated units."""

from __future__ import annotations

import datetime as dt

import msgspec
import numpy as np
import pytest

from learners.canary import look
from learners.experiments import measure_experiment
from learners.ports import ExperimentUnits, UnitMeasure
from schemas.serving import CHALLENGER_ARM, CHAMPION_ARM
from tests.lifecycle_events import rollout

PLAN = msgspec.structs.replace(
    rollout(), guardrails={"thumbs_down": -0.5}, minimum_units=100, tuning_units=1000
)
EARLY = PLAN.started_at + dt.timedelta(minutes=5)
SHARES = {CHAMPION_ARM: 0.5, CHALLENGER_ARM: 0.5}


def units(
    rates: dict[str, float], n: int, *, down: float = 0.02, challenger_down: float = 0.02
) -> ExperimentUnits:
    rng = np.random.default_rng(7)
    clicked, thumbs = [], []
    for arm, rate in rates.items():
        for index in range(n):
            unit = f"{arm}-{index}"
            queries = int(rng.integers(1, 4))
            clicked.append(
                UnitMeasure(unit=unit, arm=arm, queries=queries, total=float(rng.binomial(queries, rate)))
            )
            share = challenger_down if arm == CHALLENGER_ARM else down
            thumbs.append(
                UnitMeasure(unit=unit, arm=arm, queries=queries, total=float(rng.binomial(queries, share)))
            )
    return ExperimentUnits(
        measures={"clicked": tuple(clicked), "thumbs_down": tuple(thumbs)},
        exposed=dict.fromkeys(rates, n),
        excluded_units=0,
        offsets={},
    )


@pytest.mark.parametrize(
    ("champion", "challenger", "n", "decision"),
    [
        (0.4, 0.55, 1000, "promote"),
        (0.55, 0.4, 1000, "roll_back"),
        (0.5, 0.5, 1000, "continue"),
        (0.2, 0.8, 50, "continue"),
    ],
)
def test_one_interval_decides(champion: float, challenger: float, n: int, decision: str) -> None:
    seen = look(PLAN, 0.5, units({CHAMPION_ARM: champion, CHALLENGER_ARM: challenger}, n), EARLY)
    assert seen.decision == decision
    if n < PLAN.minimum_units:
        assert seen.measure.note.startswith("cannot say")
        assert seen.measure.estimate is None


def test_the_deadline_means_cannot_say() -> None:
    seen = look(PLAN, 0.5, units({CHAMPION_ARM: 0.5, CHALLENGER_ARM: 0.5}, 1000), PLAN.deadline)
    assert seen.decision == "cannot_say"


def test_a_breached_guardrail_rolls_back_a_winner() -> None:
    found = units({CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.6}, 2000, down=0.05, challenger_down=0.25)
    seen = look(PLAN, 0.5, found, EARLY)
    assert seen.decision == "roll_back"
    assert "guardrail thumbs_down" in seen.reason


@pytest.mark.parametrize(("down", "challenger_down"), [(0.0, 0.3), (0.003, 0.05)])
def test_a_guardrail_speaks_where_the_champion_has_next_to_none(down: float, challenger_down: float) -> None:
    found = units({CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.6}, 1000, down=down, challenger_down=challenger_down)
    assert look(PLAN, 0.5, found, EARLY).decision == "roll_back"


def test_a_guardrail_allows_what_it_says() -> None:
    """Thumbs down may rise by a half: from .06 to .08 is no breach, whatever the number of units."""
    found = units({CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.6}, 20_000, down=0.06, challenger_down=0.08)
    assert look(PLAN, 0.5, found, EARLY).decision == "promote"


def test_arms_without_their_shares_prove_nothing() -> None:
    found = msgspec.structs.replace(
        units({CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.6}, 1000),
        exposed={CHAMPION_ARM: 1000, CHALLENGER_ARM: 700},
    )
    seen = look(PLAN, 0.5, found, EARLY)
    assert seen.decision == "cannot_say"
    assert "shares" in seen.reason


def test_measurements_label_what_is_valid_at_one_look_only() -> None:
    found = units({CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.5}, 400)
    measured = measure_experiment(
        "canary-1",
        found,
        SHARES,
        control=CHAMPION_ARM,
        metrics=("clicked",),
        alpha=0.05,
        tuning_units=1000,
        minimum_units=100,
    )
    (control, treatment) = measured.results
    assert control.always is None
    assert treatment.always is not None
    assert treatment.welch is not None
    assert (treatment.always.horizon, treatment.welch.horizon) == ("always", "fixed")
    assert treatment.always.low is not None
    assert treatment.welch.low is not None
    assert treatment.always.low < treatment.welch.low
    assert measured.sample_ratio_p is not None


def test_the_order_of_units_changes_nothing() -> None:
    found = units({CHAMPION_ARM: 0.4, CHALLENGER_ARM: 0.5}, 300)
    shuffled = msgspec.structs.replace(
        found, measures={name: tuple(reversed(rows)) for name, rows in found.measures.items()}
    )
    assert look(PLAN, 0.5, found, EARLY) == look(PLAN, 0.5, shuffled, EARLY)
