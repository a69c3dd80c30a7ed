"""Which of a dataset's evidence a trial trains on: a choice of the study, because none is best everywhere.

- `heaviest`: the one likeliest positive of each question;
- `spread`: all its positives, drawn by weight;
- `spread+negatives`: with the vetted negatives, which were looked at and left.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from learners.freeze.labels import GradedQuestion, TrainQuestion
from learners.train.scoring import LabelledQuestion
from learners.train.study import LABELLINGS
from learners.train.trainer import Example


def make_examples(
    questions: Sequence[TrainQuestion], labelling: str, *, limit: int, seed: int
) -> list[Example]:
    """Examples of at most `limit` questions, drawn evenly; the same arguments give the same ones in order.

    Raises ValueError for a labelling that is not in `LABELLINGS`.
    """
    if labelling not in LABELLINGS:
        raise ValueError(f"expected one of {LABELLINGS}, got {labelling!r}")
    chosen = np.random.default_rng(seed).permutation(len(questions))[:limit]
    return [_make_example(questions[i], labelling) for i in sorted(chosen.tolist())]


def _make_example(question: TrainQuestion, labelling: str) -> Example:
    positives = tuple(question.positives.items())
    return Example(
        text=question.text,
        positives=positives[:1] if labelling == "heaviest" else positives,
        doubtful=frozenset(question.masked) | frozenset(question.positives),
        negatives=question.negatives if labelling == "spread+negatives" else (),
    )


def labelled(questions: Sequence[GradedQuestion]) -> list[LabelledQuestion]:
    """Validation or judge questions as `scoring` takes them, without those that have no relevant document."""
    rows = [LabelledQuestion(text=q.text, group=q.group, labels=q.labels) for q in questions]
    return [row for row in rows if row.says_something]
