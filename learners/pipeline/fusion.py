"""Two ranked arms become one list.

Both formulas see the same candidates: the first `depth` documents of each arm. The dense score of every
candidate is known; the BM25 score of a candidate outside the lexical arm is taken as 0, its smallest value.

- *convex*: w * cosine + (1 - w) * BM25 / (largest BM25 score of this query). A convex combination as in
  Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", 2023; the cosine is left as
  it is, so that a low top score still means that nothing fits.
- *rrf*: w / (k + dense rank) + (1 - w) / (k + BM25 rank); an arm that does not list a document adds 0
  (Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion", 2009, with weights).

With all weight on one arm, the score is that arm's own: the cosine, or BM25.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.versions import FusionSettings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

#: Scores are compared at this resolution (digits), so that copies of one text tie whatever the matrix
#: kernel did.
SCORE_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Candidates:
    """The documents of one query that either arm put among its first `depth`; c of them.

    `positions`: [c] ascending positions in the index; `dense`, `bm25`: [c] raw scores (0 for an arm that
    was not consulted, and for BM25 outside the arm); `dense_rank`, `bm25_rank`: [c] 1 is the top, 0 means
    not listed.
    """

    positions: Ints
    dense: Floats
    bm25: Floats
    dense_rank: Ints
    bm25_rank: Ints

    @property
    def size(self) -> int:
        return len(self.positions)


def top_positions(scores: Floats, depth: int) -> Ints:
    """Positions of the `depth` largest scores, largest first; equal scores by position."""
    if depth >= len(scores):
        return np.argsort(-scores, kind="stable")
    threshold = np.partition(scores, len(scores) - depth)[len(scores) - depth]
    # Everything at the threshold competes, else a tie would be cut by the partition's whim.
    contenders = np.flatnonzero(scores >= threshold)
    return contenders[np.argsort(-scores[contenders], kind="stable")][:depth]


def select_candidates(
    dense: npt.NDArray[np.floating] | None,
    bm25_positions: Ints,
    bm25_scores: npt.NDArray[np.floating],
    depth: int,
) -> Candidates:
    """Join the arms of one query.

    `dense`: [n] cosine with every document, or None if the arm was not consulted. `bm25_positions`,
    `bm25_scores`: the lexical arm in any order, without repeats; its best `depth` count.
    """
    lexical = _rounded(bm25_scores)
    order = np.lexsort((bm25_positions, -lexical))[:depth]
    bm25_top, lexical = np.asarray(bm25_positions, dtype=np.int64)[order], lexical[order]
    everywhere = None if dense is None else _rounded(dense)
    dense_top = np.empty(0, np.int64) if everywhere is None else top_positions(everywhere, depth)

    positions = np.union1d(dense_top, bm25_top)
    bm25, bm25_rank, dense_rank = np.zeros(len(positions)), *np.zeros((2, len(positions)), np.int64)
    in_bm25 = np.searchsorted(positions, bm25_top)
    bm25[in_bm25] = lexical
    bm25_rank[in_bm25] = np.arange(1, len(bm25_top) + 1)
    dense_rank[np.searchsorted(positions, dense_top)] = np.arange(1, len(dense_top) + 1)
    known = np.zeros(len(positions)) if everywhere is None else everywhere[positions]
    return Candidates(positions=positions, dense=known, bm25=bm25, dense_rank=dense_rank, bm25_rank=bm25_rank)


def restrict(candidates: Candidates, fusion: FusionSettings) -> Candidates:
    """Only what the arms with a weight list: the candidates that a search with `fusion` would have had."""
    if 0 < fusion.dense_weight < 1:
        return candidates
    keep = (candidates.dense_rank if fusion.dense_weight == 1 else candidates.bm25_rank) > 0
    return Candidates(
        positions=candidates.positions[keep],
        dense=candidates.dense[keep],
        bm25=candidates.bm25[keep],
        dense_rank=candidates.dense_rank[keep],
        bm25_rank=candidates.bm25_rank[keep],
    )


def fused_scores(candidates: Candidates, fusion: FusionSettings) -> Floats:
    """[c] larger is better. The module docstring has the formulas."""
    w = fusion.dense_weight
    if w == 1:
        return candidates.dense
    if w == 0:
        return candidates.bm25
    if fusion.method == "rrf":
        dense, lexical = (_reciprocal(r, fusion.rrf_k) for r in (candidates.dense_rank, candidates.bm25_rank))
        return w * dense + (1 - w) * lexical
    top = candidates.bm25.max(initial=0.0)
    return w * candidates.dense + (1 - w) * (candidates.bm25 / top if top > 0 else candidates.bm25)


def fuse(candidates: Candidates, fusion: FusionSettings, k: int) -> tuple[Ints, Floats]:
    """Indices into `candidates` of the best `k` in order, and their fused scores; ties by position."""
    listed = restrict(candidates, fusion)
    scores = np.round(fused_scores(listed, fusion), 2 * SCORE_DIGITS)
    order = np.argsort(-scores, kind="stable")[:k]
    return np.searchsorted(candidates.positions, listed.positions[order]), scores[order]


def _rounded(scores: npt.NDArray[np.floating]) -> Floats:
    rounded: Floats = np.asarray(scores, dtype=np.float64).round(SCORE_DIGITS)
    return rounded


def _reciprocal(ranks: Ints, k: float) -> Floats:
    return np.where(ranks > 0, 1.0 / (k + ranks), 0.0)
