"""The judge's word, from both sides' scores."""

from __future__ import annotations

import numpy as np
import pytest

from learners.train.judging import MAXIMUM_UNLABELLED_RATIO, decide
from learners.train.requests import JudgeDone
from learners.train.scoring import PipelineScores

GROUPS = [f"g{n // 2}" for n in range(400)]


def judged(
    difference: float, *, spread: float = 0.1, groups: list[str] = GROUPS, unlabelled: float = 0.2
) -> JudgeDone:
    """The judge on scores whose mean difference is `difference`."""
    rng = np.random.default_rng(4)
    champion = rng.uniform(0.3, 0.6, len(groups))
    noise = rng.normal(0, spread, len(groups))
    challenger = champion + difference + noise - noise.mean()
    share = np.full(len(groups), unlabelled)
    return decide(
        PipelineScores(values=champion, unlabelled=share),
        PipelineScores(values=challenger, unlabelled=share),
        groups,
        margin=0.01,
        alpha=0.05,
        rng=np.random.default_rng(7),
    )


def test_a_better_one_is_admitted_with_its_interval() -> None:
    done = judged(0.05)
    assert done.verdict == "admitted"
    measure = done.measure
    assert measure.low is not None
    assert measure.high is not None
    assert 0 < measure.low < 0.05 < measure.high
    assert (measure.units, measure.resampled, measure.horizon) == (200, "question group", "fixed")


def test_one_that_is_as_good_is_admitted_because_users_decide() -> None:
    assert judged(0.0, spread=0.03).verdict == "admitted"


def test_a_worse_one_is_refused() -> None:
    done = judged(-0.05)
    assert done.verdict == "refused"
    assert done.measure.high is not None
    assert done.measure.high < 0


@pytest.mark.parametrize(
    ("done", "why"),
    [
        (judged(0.0, spread=0.3), "not shown to be no worse"),
        (judged(0.05, groups=[f"g{n}" for n in range(20)]), "need 30 question groups, got 20"),
        (judged(0.0, spread=0.0), "need 20 question groups on which the two differ"),
        (judged(0.05, unlabelled=MAXIMUM_UNLABELLED_RATIO + 0.01), "never shown"),
    ],
)
def test_what_it_cannot_say_it_does_not_say(done: JudgeDone, why: str) -> None:
    assert done.verdict == "cannot_say"
    assert why in done.reason


def test_the_same_seed_gives_the_same_word() -> None:
    assert judged(0.05) == judged(0.05)
