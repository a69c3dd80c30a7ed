"""The judge: is a challenger no worse than the champion, as a whole pipeline, on questions nobody trained on?

It admits, users decide: "no worse" lets a challenger reach some users, who are the real test (a canary). So
the judge is asked for the absence of harm, not for a gain. What it says:

- `admitted`: the lower confidence bound of the difference is above -margin;
- `refused`: the whole two-sided interval is below 0, it *is* worse;
- `cannot_say`: anything else: too few question groups, no difference on most, an interval that reaches
  below the margin without excluding 0, or lists of which too little is known.

Only `admitted` goes on; the other two keep the champion, and differ in what a person learns from them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from learners.freeze.dataset import Dataset
from learners.freeze.labels import GradedQuestion, TrainQuestion
from learners.pipeline.embedder import EmbedderPool, limit_cpu_threads
from learners.pipeline.manifest import read_manifest
from learners.pipeline.pipeline import open_version
from learners.pipeline.vectors import DocumentVectors
from learners.statistics.findings import CannotSay
from learners.statistics.paired import NonInferiority, no_worse
from learners.train.corpus import dataset_hash, stored_documents
from learners.train.labelling import labelled
from learners.train.requests import JudgeDone, JudgeTask
from learners.train.scoring import K, LabelledQuestion, PipelineScores, score_pipeline
from schemas.documents import DocumentStored
from schemas.lifecycle import Measure, Verdict

METRIC: Final = f"ndcg@{K} on condensed lists"
#: Share of unlabelled documents among the top ten, of either side, beyond which the metric describes lists
#: that nobody saw.
MAXIMUM_UNLABELLED_RATIO: Final = 0.75


def judge(task: JudgeTask) -> JudgeDone:
    """Both versions answer the judge's questions over the dataset's documents. Same task, same answer.

    Raises VersionDamaged, Fatal for a damaged dataset, ValueError if the challenger may have trained on
    what it is judged by.
    """
    limit_cpu_threads(task.threads)
    dataset = Dataset(Path(task.dataset))
    check_unseen(Path(task.challenger), Path(task.dataset), dataset.train(), dataset.judge())
    questions = labelled(dataset.judge())
    if not questions:
        return _cannot_say("the dataset has no judge question with a relevant document")
    documents = stored_documents(dataset.documents())
    vectors, pool = DocumentVectors(Path(task.vectors)), EmbedderPool()
    champion, challenger = (
        _score(Path(version), questions, documents, vectors, pool)
        for version in (task.champion, task.challenger)
    )
    return decide(
        champion,
        challenger,
        [question.group for question in questions],
        margin=task.margin,
        alpha=task.alpha,
        rng=np.random.default_rng(task.seed),
    )


def check_unseen(
    challenger: Path, dataset: Path, train: Sequence[TrainQuestion], judged: Sequence[GradedQuestion]
) -> None:
    """Raise ValueError if the challenger is from another dataset, or a group is in train and in judge."""
    named = read_manifest(challenger).dataset_hash
    if named is not None and named != dataset_hash(dataset):
        raise ValueError(
            f"{challenger} learned from dataset {named}, not from {dataset}: judge it on its own dataset"
        )
    both = {question.group for question in train} & {question.group for question in judged}
    if both:
        raise ValueError(f"{dataset}: {len(both)} question groups are in train and in judge; freeze again")


def decide(
    champion: PipelineScores,
    challenger: PipelineScores,
    groups: Sequence[str],
    *,
    margin: float,
    alpha: float,
    rng: np.random.Generator,
) -> JudgeDone:
    """The verdict from both sides' scores on the same questions; see the module docstring."""
    unlabelled = max(float(champion.unlabelled.mean()), float(challenger.unlabelled.mean()))
    if unlabelled > MAXIMUM_UNLABELLED_RATIO:
        return _cannot_say(
            f"{unlabelled:.0%} of the top {K} were never shown to anybody; at most "
            f"{MAXIMUM_UNLABELLED_RATIO:.0%} may be: more exploration is needed",
            unlabelled,
        )
    found = no_worse(champion.values, challenger.values, groups, margin=margin, alpha=alpha, rng=rng)
    if isinstance(found, CannotSay):
        return _cannot_say(found.detail, unlabelled)
    interval = found.interval
    measure = Measure(
        metric=METRIC,
        estimate=interval.estimate,
        low=interval.low,
        high=interval.high,
        alpha=alpha,
        horizon="fixed",
        resampled=interval.resampled or "",
        units=interval.n,
        note=f"one-sided lower bound {found.bound:+.4f}",
    )
    verdict, reason = _verdict(found)
    return JudgeDone(verdict=verdict, reason=reason, measure=measure, unlabelled_ratio=unlabelled)


def _score(
    version: Path,
    questions: Sequence[LabelledQuestion],
    documents: Sequence[DocumentStored],
    vectors: DocumentVectors,
    pool: EmbedderPool,
) -> PipelineScores:
    pipeline = open_version(version, vectors=vectors, pool=pool)
    pipeline.update_documents(documents)
    return score_pipeline(pipeline, questions)


def _verdict(found: NonInferiority) -> tuple[Verdict, str]:
    interval = found.interval
    if found.no_worse:
        return "admitted", (
            f"no worse: the difference is above {found.bound:+.4f}, the margin is {-found.margin:+g} "
            f"({interval.estimate:+.4f}, {interval.n} question groups)"
        )
    if interval.below(0.0):
        return "refused", (
            f"worse: the difference is {interval.estimate:+.4f}, at most {interval.high:+.4f} "
            f"({interval.n} question groups)"
        )
    return "cannot_say", (
        f"not shown to be no worse: the difference may be as low as {found.bound:+.4f}, the margin is "
        f"{-found.margin:+g} ({interval.estimate:+.4f}, {interval.n} question groups)"
    )


def _cannot_say(reason: str, unlabelled_ratio: float = 0.0) -> JudgeDone:
    return JudgeDone(
        verdict="cannot_say",
        reason=reason,
        measure=Measure(metric=METRIC),
        unlabelled_ratio=unlabelled_ratio,
    )
