"""Versions on questions with known answers: for a team's golden set, and for reports. Decides nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from learners.pipeline.index import Matrix
from learners.pipeline.metrics import mrr, ndcg
from learners.pipeline.pipeline import Pipeline, open_version
from learners.pipeline.vectors import DocumentVectors
from learners.ports import CurrentDocument
from learners.statistics.findings import CannotSay, Interval
from learners.statistics.paired import paired_difference
from schemas.documents import DocumentStored
from schemas.lifecycle import Measure

METRICS = {"ndcg@10": ndcg, "mrr@10": mrr}
_ALPHA = 0.05
#: A question this near to another one (cosine, the first version's embedder) is the same question.
NEAR = 0.90
APART = "apart"


class LabelledQuestion(Struct, frozen=True, kw_only=True):
    """A question with its relevant documents. `group`: questions of a group are resampled together."""

    id: str
    text: str
    #: Document id → gain (≥ 1).
    relevant: dict[str, float]
    group: str = ""
    #: Names of the slices that the question counts in, beside `all`.
    slices: tuple[str, ...] = ()


class EvaluateTask(Struct, frozen=True, kw_only=True):
    """What a child is asked."""

    #: Version id → directory; the first is what the others are compared with.
    versions: dict[str, str]
    questions: tuple[LabelledQuestion, ...]
    documents: tuple[CurrentDocument, ...]
    #: File of the tenant's document vectors.
    vectors: str
    #: Questions without one of these texts at cosine ≥ `NEAR` make slices of their own; None: no such slices.
    apart_from: tuple[str, ...] | None = None
    seed: int = 0


class SliceScore(Struct, frozen=True, kw_only=True):
    """One version on one slice; `difference` is against the first version, on the same questions."""

    version: str
    slice: str
    questions: int
    #: Metric → its mean with an interval.
    values: dict[str, Measure]
    differences: dict[str, Measure]


class Evaluation(Struct, frozen=True, kw_only=True):
    """All versions on all slices."""

    scores: tuple[SliceScore, ...]


def evaluate_versions(task: EvaluateTask) -> Evaluation:
    """Score every version on every question, then say each slice's means and differences.

    A document that is not in the corpus cannot be found and counts as missed.
    """
    questions: Sequence[LabelledQuestion] = task.questions
    vectors = DocumentVectors(Path(task.vectors))
    per_version: dict[str, dict[str, np.ndarray]] = {}
    for version, directory in task.versions.items():
        pipeline = open_version(Path(directory), vectors=vectors)
        pipeline.update_documents(
            DocumentStored(document_id=d.document_id, title=d.title, text=d.text) for d in task.documents
        )
        asked = pipeline.embedder.encode_queries([question.text for question in questions])
        if task.apart_from is not None and not per_version:
            theirs = pipeline.embedder.encode_queries(sorted(set(task.apart_from)))
            questions = mark_apart(questions, asked, theirs)
        per_version[version] = score_questions(pipeline, questions, asked)
    first = next(iter(task.versions))
    rng = np.random.default_rng(task.seed)
    scores: list[SliceScore] = []
    for name, rows in slices_of(questions).items():
        groups = np.array([questions[row].group or questions[row].id for row in rows])
        for version in task.versions:
            mine = {metric: values[rows] for metric, values in per_version[version].items()}
            base = {metric: values[rows] for metric, values in per_version[first].items()}
            zeros = np.zeros(len(rows))
            scores.append(
                SliceScore(
                    version=version,
                    slice=name,
                    questions=len(rows),
                    values={m: _mean(m, zeros, mine[m], groups, rng) for m in METRICS},
                    differences={}
                    if version == first
                    else {m: _mean(m, base[m], mine[m], groups, rng) for m in METRICS},
                )
            )
    return Evaluation(scores=tuple(scores))


def score_questions(
    pipeline: Pipeline, questions: Sequence[LabelledQuestion], vectors: Matrix
) -> dict[str, np.ndarray]:
    """Metric → (questions,) score of each, over the pipeline's ten best documents.

    `vectors`: [questions, dimension], by the pipeline's embedder.
    """
    lists = pipeline.rank_many([question.text for question in questions], k=10, vectors=vectors)
    return {
        metric: np.array(
            [
                score([hit.document_id for hit in hits], question.relevant, 10)
                for hits, question in zip(lists, questions, strict=True)
            ]
        )
        for metric, score in METRICS.items()
    }


def mark_apart(
    questions: Sequence[LabelledQuestion], vectors: Matrix, others: Matrix
) -> list[LabelledQuestion]:
    """The questions, with `apart` (and `<slice>, apart`) on those that none of the other texts is near to.

    `vectors`: [questions, dimension] and `others`: [texts, dimension], of length 1, by one embedder.
    """
    marked = []
    for question, vector in zip(questions, vectors, strict=True):
        if others.size and float((others @ vector).max()) >= NEAR:
            marked.append(question)
            continue
        names = (*question.slices, APART, *(f"{name}, {APART}" for name in question.slices))
        marked.append(msgspec.structs.replace(question, slices=names))
    return marked


def slices_of(questions: Sequence[LabelledQuestion]) -> Mapping[str, list[int]]:
    """Slice → rows of its questions; `all` first."""
    slices: dict[str, list[int]] = {"all": list(range(len(questions)))}
    for row, question in enumerate(questions):
        for name in question.slices:
            slices.setdefault(name, []).append(row)
    return slices


def _mean(
    metric: str, before: np.ndarray, after: np.ndarray, groups: np.ndarray, rng: np.random.Generator
) -> Measure:
    """Mean of after - before with an interval; groups of questions are resampled."""
    found: Interval | CannotSay = paired_difference(
        before, after, groups, alpha=_ALPHA, rng=rng, resamples=2000
    )
    estimate = float((after - before).mean())
    if isinstance(found, CannotSay):
        return Measure(metric=metric, estimate=estimate, units=found.n, note=f"no interval: {found.detail}")
    return Measure(
        metric=metric,
        estimate=estimate,
        low=found.low,
        high=found.high,
        alpha=found.alpha,
        horizon="fixed",
        # where every question is its own group, single questions were drawn
        resampled="question" if len(set(groups.tolist())) == len(groups) else found.resampled or "",
        units=found.n,
    )
