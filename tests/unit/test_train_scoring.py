"""The score of a trial is not flattered by the fusion having been chosen on the same questions."""

from __future__ import annotations

import numpy as np
import pytest

from learners.pipeline.fusion import Candidates, select_candidates
from learners.pipeline.tuning import tune_on_candidates
from learners.train.scoring import LabelledQuestion, cross_fit

DOCUMENTS = [f"d{n:02d}" for n in range(20)]


def draw(
    rng: np.random.Generator, count: int, *, dense_helps: float
) -> tuple[list[Candidates], list[LabelledQuestion]]:
    """Questions with one relevant document, whose dense score is raised by `dense_helps`; BM25 is noise."""
    candidates, questions = [], []
    for n in range(count):
        relevant = int(rng.integers(len(DOCUMENTS)))
        dense = rng.uniform(0, 1, len(DOCUMENTS))
        dense[relevant] += dense_helps
        candidates.append(select_candidates(dense, np.arange(20), rng.uniform(0, 5, 20), 20))
        labels = {name: float(name == DOCUMENTS[relevant]) for name in DOCUMENTS}
        questions.append(LabelledQuestion(text=f"q{n}", group=f"g{n}", labels=labels))
    return candidates, questions


def test_on_noise_the_cross_fitted_value_is_below_the_flattered_one() -> None:
    flattered, honest = [], []
    for seed in range(12):
        candidates, questions = draw(np.random.default_rng(seed), 30, dense_helps=0.0)
        labels = [question.labels for question in questions]
        flattered.append(tune_on_candidates(candidates, DOCUMENTS, labels, condensed=True).score)
        honest.append(cross_fit(candidates, DOCUMENTS, questions).value)
    # 20 documents at random: the mean of 1 / log2(rank + 1) over ranks 1 … 10, of 20.
    chance = sum(1 / np.log2(rank + 1) for rank in range(1, 11)) / 20
    assert np.mean(flattered) > chance + 0.03
    assert np.mean(honest) == pytest.approx(chance, abs=0.03)


def test_the_arm_that_knows_is_chosen_and_its_value_is_told() -> None:
    candidates, questions = draw(np.random.default_rng(1), 200, dense_helps=1.0)
    fitted = cross_fit(candidates, DOCUMENTS, questions)
    assert fitted.fusion.dense_weight > 0.8
    assert fitted.value > 0.95


def test_too_few_questions_are_refused() -> None:
    candidates, questions = draw(np.random.default_rng(1), 1, dense_helps=1.0)
    with pytest.raises(ValueError, match="more feedback is needed"):
        cross_fit(candidates, DOCUMENTS, questions)
