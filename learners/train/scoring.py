"""What a pipeline is worth on labelled questions: nDCG@10 of its lists without their unlabelled documents."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from learners.pipeline.fusion import Candidates
from learners.pipeline.metrics import ndcg_condensed
from learners.pipeline.pipeline import Pipeline
from learners.pipeline.tuning import TunedFusion, tune_on_candidates
from schemas.versions import FusionSettings

#: Depth of the metric.
K: Final = 10
#: Parts of the validation questions; each is scored with the fusion that is best on the others.
FOLDS: Final = 5


class LabelledQuestion(Struct, frozen=True):
    """`labels`: document → relevance, 0 = irrelevant; a document that is not in it is unlabelled."""

    text: str
    group: str
    labels: Mapping[str, float]

    @property
    def says_something(self) -> bool:
        """Whether a ranking can be scored: a question without a relevant document has no nDCG."""
        return any(label > 0 for label in self.labels.values())


class CrossFitted(Struct, frozen=True):
    """`fusion` is best on all questions; `value` is what fusion chosen like that reaches on unseen ones."""

    fusion: FusionSettings
    value: float


def tune_and_score(pipeline: Pipeline, questions: Sequence[LabelledQuestion]) -> CrossFitted:
    """Fusion for `pipeline`, and its nDCG@10 without the flattery of having been chosen on these questions.

    The embedder has never seen validation questions, but fusion is chosen on them (on questions that it
    trained on, the dense arm looks better than it is). So the score is cross-fitted: groups go to folds by
    hash, and each fold is scored with the setting that is best on the other folds. Raises ValueError with
    fewer than two folds that have a question with a relevant document.
    """
    candidates = pipeline.candidates_many([question.text for question in questions])
    return cross_fit(candidates, pipeline.snapshot().document_ids, questions)


def cross_fit(
    candidates: Sequence[Candidates], names: Sequence[str], questions: Sequence[LabelledQuestion]
) -> CrossFitted:
    """`tune_and_score` from each question's candidates; `names` are the ids behind their positions."""
    folds = [
        tuned for fold in range(FOLDS) if (tuned := _tune(candidates, names, questions, fold)) is not None
    ]
    if len(folds) < 2:
        raise ValueError(
            f"expected questions with a relevant document in two folds at least, got {len(questions)} "
            f"questions in {len(folds)} folds: more feedback is needed"
        )
    settings = [fusion for fusion, _ in folds[0].scores]
    # [folds, settings]: sum of nDCG over the fold's questions.
    sums = np.array([[score * fold.queries for _, score in fold.scores] for fold in folds])
    total = sums.sum(axis=0)
    held_out = [float(sums[i, int((total - sums[i]).argmax())]) for i in range(len(folds))]
    return CrossFitted(
        fusion=settings[int(total.argmax())],
        value=math.fsum(held_out) / sum(fold.queries for fold in folds),
    )


def _tune(
    candidates: Sequence[Candidates],
    names: Sequence[str],
    questions: Sequence[LabelledQuestion],
    fold: int,
) -> TunedFusion | None:
    rows = [
        i
        for i, question in enumerate(questions)
        if question.says_something and _fold_of(question.group) == fold
    ]
    if not rows:
        return None
    return tune_on_candidates(
        [candidates[i] for i in rows], names, [questions[i].labels for i in rows], k=K, condensed=True
    )


def _fold_of(group: str) -> int:
    return hashlib.sha256(group.encode()).digest()[0] % FOLDS


class PipelineScores(Struct, frozen=True):
    """Per question, in the order given: nDCG@10 on the condensed list, and the top's unlabelled share."""

    values: npt.NDArray[np.float64]
    unlabelled: npt.NDArray[np.float64]


def score_pipeline(pipeline: Pipeline, questions: Sequence[LabelledQuestion]) -> PipelineScores:
    """Search every question as it would be served and score the lists; each must have a relevant label."""
    lists = pipeline.rank_many([question.text for question in questions], k=pipeline.settings.depth)
    scores = [
        ndcg_condensed([hit.document_id for hit in hits], question.labels, K)
        for hits, question in zip(lists, questions, strict=True)
    ]
    return PipelineScores(
        values=np.array([score.value for score in scores]),
        unlabelled=np.array([score.unlabelled_ratio for score in scores]),
    )
