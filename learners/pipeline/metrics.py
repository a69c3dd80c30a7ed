"""Ranking quality from labels: nDCG, MRR, recall, and nDCG on condensed lists.

Labels are a mapping document id → relevance (0 = judged irrelevant, > 0 = relevant, larger is better). A
document that is not in the mapping is *unlabelled*: nobody knows. The plain metrics count it as
irrelevant; the condensed one takes it out of the list. A query without a relevant document says nothing:
its value is nan, never 0 or 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Labels = Mapping[str, float]


def ndcg(ranked: Sequence[str], labels: Labels, k: int = 10) -> float:
    """nDCG@k with linear gain: sum of label / log2(rank + 1), over that sum for the best order of all labels.

    Järvelin, Kekäläinen, "Cumulated gain-based evaluation of IR techniques", 2002, with the usual
    log2(rank + 1). `ranked`: ids, best first, no repeats. In [0, 1], or nan.
    """
    ideal = _dcg(sorted((max(label, 0.0) for label in labels.values()), reverse=True)[:k])
    if ideal == 0:
        return math.nan
    return _dcg([max(labels.get(document, 0.0), 0.0) for document in ranked[:k]]) / ideal


def mrr(ranked: Sequence[str], labels: Labels, k: int = 10) -> float:
    """1 / rank of the first relevant document of the first k, 0 if none is; nan if no label is relevant."""
    if not any(label > 0 for label in labels.values()):
        return math.nan
    return next((1 / rank for rank, document in enumerate(ranked[:k], 1) if labels.get(document, 0) > 0), 0.0)


def recall(ranked: Sequence[str], labels: Labels, k: int = 10) -> float:
    """Share of the relevant documents that are among the first k; nan if no label is relevant."""
    relevant = {document for document, label in labels.items() if label > 0}
    return len(relevant.intersection(ranked[:k])) / len(relevant) if relevant else math.nan


@dataclass(frozen=True, slots=True)
class CondensedScore:
    """`value`: nDCG@k of the list without its unlabelled documents, or nan.

    `unlabelled_ratio`: share of the first k documents of the *whole* list that nobody labelled (0 for an
    empty list); the larger it is, the less `value` says about what users saw.
    """

    value: float
    unlabelled_ratio: float


def ndcg_condensed(ranked: Sequence[str], labels: Labels, k: int = 10) -> CondensedScore:
    """nDCG@k on the condensed list (Sakai, "Alternatives to Bpref", 2007, §2.3).

    Give a list deeper than k, so that enough labelled documents are left; its order is kept.
    """
    top = ranked[:k]
    unlabelled = sum(document not in labels for document in top)
    condensed = [document for document in ranked if document in labels]
    return CondensedScore(ndcg(condensed, labels, k), unlabelled / len(top) if top else 0.0)


def mean(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Mean over the queries that say something; nan if none does."""
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan


def _dcg(gains: Sequence[float]) -> float:
    return math.fsum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, start=1))
