"""Golden questions: slices, and what an interval says was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from learners.evaluation import LabelledQuestion, _mean, mark_apart, slices_of


def question(id: str, *slices: str) -> LabelledQuestion:
    return LabelledQuestion(id=id, text=id, relevant={"d": 1.0}, slices=slices)


def test_every_question_is_in_all_and_in_its_own_slices() -> None:
    found = slices_of([question("a", "moved"), question("b"), question("c", "moved", "apart")])
    assert found == {"all": [0, 1, 2], "moved": [0, 2], "apart": [2]}


def test_a_question_with_a_near_text_is_not_apart() -> None:
    mine = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    other = np.array([[0.91, np.sqrt(1 - 0.91**2)], [0.5, -np.sqrt(0.75)]], dtype=np.float32)
    near, apart = mark_apart([question("near", "moved"), question("far", "moved")], mine, other)
    assert near.slices == ("moved",)
    assert apart.slices == ("moved", "apart", "moved, apart")
    nothing = np.empty((0, 2), dtype=np.float32)
    assert all("apart" in one.slices for one in mark_apart([question("a"), question("b")], mine, nothing))


@pytest.mark.parametrize(("groups", "drawn"), [(200, "question"), (50, "question group")])
def test_an_interval_says_what_was_drawn(groups: int, drawn: str) -> None:
    rng = np.random.default_rng(1)
    before, after = rng.random(200), rng.random(200) + 0.2
    labels = np.array([f"g{row % groups}" for row in range(200)])
    measure = _mean("ndcg@10", before, after, labels, rng)
    assert measure.resampled == drawn
    assert measure.low is not None
    assert measure.high is not None
    assert measure.low < 0.2 < measure.high
    assert measure.estimate == pytest.approx(float((after - before).mean()))
