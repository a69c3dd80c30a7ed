"""Fusion settings that rank labelled questions best: all of a small grid is tried, nothing is random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from learners.pipeline.fusion import Candidates, Floats, fuse, select_candidates
from learners.pipeline.metrics import mean, ndcg, ndcg_condensed
from schemas.versions import FusionSettings

_WEIGHTS = tuple(round(step * 0.05, 2) for step in range(21))
#: Single arms are the ends of the convex grid. Of settings that do equally well the earliest wins.
DEFAULT_GRID: tuple[FusionSettings, ...] = (
    *(FusionSettings(method="convex", dense_weight=w) for w in sorted(_WEIGHTS, reverse=True)),
    *(
        FusionSettings(method="rrf", dense_weight=w, rrf_k=k)
        for k in (10.0, 60.0)
        for w in (0.3, 0.5, 0.7, 0.9)
    ),
)


@dataclass(frozen=True, slots=True)
class TunedFusion:
    """`settings` reached `score`, the mean nDCG@k over `queries` questions that have a relevant label.

    `scores`: the same for every setting of the grid, in its order.
    """

    settings: FusionSettings
    score: float
    queries: int
    scores: tuple[tuple[FusionSettings, float], ...]


def tune_fusion(
    dense_scores: Floats,
    bm25_scores: Floats,
    relevance: Floats,
    *,
    depth: int = 100,
    k: int = 10,
    condensed: bool = False,
    grid: Sequence[FusionSettings] = DEFAULT_GRID,
) -> TunedFusion:
    """Choose from `grid` by mean nDCG@k over questions.

    `dense_scores`, `bm25_scores`: [q, n] raw scores of every document; BM25 0 = no token shared.
    `relevance`: [q, n] label, 0 = irrelevant, nan = unlabelled. Columns in order of document id give the
    serving order of ties. Raises ValueError if shapes differ or no question has a relevant document.
    """
    if not (dense_scores.ndim == 2 and dense_scores.shape == bm25_scores.shape == relevance.shape):
        raise ValueError(
            f"expected three [questions, documents] arrays of one shape, got {dense_scores.shape}, "
            f"{bm25_scores.shape}, {relevance.shape}"
        )
    questions = []
    labels = []
    for dense, bm25, row in zip(dense_scores, bm25_scores, relevance, strict=True):
        lexical = np.flatnonzero(bm25 > 0)
        questions.append(select_candidates(dense, lexical, bm25[lexical], depth))
        labels.append({str(position): float(row[position]) for position in np.flatnonzero(~np.isnan(row))})
    names = [str(position) for position in range(relevance.shape[1])]
    return tune_on_candidates(questions, names, labels, k=k, condensed=condensed, grid=grid)


def tune_on_candidates(
    questions: Sequence[Candidates],
    document_ids: Sequence[str],
    labels: Sequence[Mapping[str, float]],
    *,
    k: int = 10,
    condensed: bool = False,
    grid: Sequence[FusionSettings] = DEFAULT_GRID,
) -> TunedFusion:
    """As `tune_fusion`, from what `Pipeline.candidates_many` returned and each question's labels by id.

    `condensed`: unlabelled documents are taken out of the lists, as the judge does.
    """
    if len(questions) != len(labels):
        raise ValueError(
            f"expected labels for each question, got {len(questions)} questions, {len(labels)} labels"
        )
    asked = [
        (c, known) for c, known in zip(questions, labels, strict=True) if any(v > 0 for v in known.values())
    ]
    if not asked or not grid:
        raise ValueError(
            f"nothing to tune on: {len(asked)} of {len(questions)} questions have a relevant document, "
            f"{len(grid)} settings to try"
        )
    scores = [(fusion, _score(asked, document_ids, fusion, k, condensed)) for fusion in grid]
    best, score = max(scores, key=lambda tried: tried[1])
    return TunedFusion(settings=best, score=score, queries=len(asked), scores=tuple(scores))


def _score(
    asked: Sequence[tuple[Candidates, Mapping[str, float]]],
    document_ids: Sequence[str],
    fusion: FusionSettings,
    k: int,
    condensed: bool,
) -> float:
    values = []
    for candidates, labels in asked:
        order, _ = fuse(candidates, fusion, candidates.size if condensed else k)
        ranked = [document_ids[position] for position in candidates.positions[order]]
        values.append(ndcg_condensed(ranked, labels, k).value if condensed else ndcg(ranked, labels, k))
    return mean(values)
