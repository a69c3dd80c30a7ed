"""How relevant a document is to a question, from what similar questions' users did: clicks over expected
clicks.

A click at rank 7 says more than one at rank 1, and a document that nobody clicked at rank 1 was looked at and
refused, while one at rank 9 was hardly seen. So evidence is counted in *expected clicks*: what a document
gets at that rank on the average of the log. The lift of a document is its clicks over those expected, its
question's evidence and that of similar questions together, drawn towards a prior. A document without any
expected click has no lift: it is unlabelled.

A question with one session has one click or none; it shares its topic with others. That is where most of what
can be learned comes from, so neighbours are taken within the split only: nothing of a judge question reaches
training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learners.freeze.groups import Vectors
from learners.freeze.questions import DEEPEST_RANK, Question
from learners.freeze.settings import FreezeSettings

Floats = npt.NDArray[np.float64]

_BLOCK = 512
#: Clicks at rank 1 below which the log's own curve is not believed.
_MINIMUM_CLICKS = 50


@dataclass(frozen=True, slots=True)
class Estimate:
    """`lift`: clicks over expected clicks, shrunk. `expected`: how many clicks were expected, weighted.

    `others`: the lift without this question's own evidence. `own`: clicks expected of this question itself;
    0: it was never shown the document. `used`: clicks and positive judgements of this very question.
    """

    lift: float
    expected: float
    others: float
    own: float
    used: float


def expected_clicks(questions: Sequence[Question]) -> Floats:
    """(DEEPEST_RANK,) clicks that a document gets at rank 1, 2, … on the average; falling, above 0.

    With too few clicks to see the curve it is that of nDCG's discount, 1 / log2(rank + 1), at a click at rank
    1 in two.
    """
    shown, used = np.zeros(DEEPEST_RANK), np.zeros(DEEPEST_RANK)
    for question in questions:
        for look in question.looks:
            shown[look.rank - 1] += 1
            used[look.rank - 1] += look.used
    discount: Floats = 0.5 / np.log2(np.arange(2, DEEPEST_RANK + 2))
    if used[0] < _MINIMUM_CLICKS:
        return discount
    # One look at the first rank's rate, so that a rank that was shown twice has no wild rate.
    rate = (used + discount / discount[0] * used[0] / shown[0]) / (shown + 1)
    # A hundredth of rank 1 is the floor: a click far down is strong evidence, not infinite.
    curve: Floats = np.maximum(np.minimum.accumulate(rate), rate[0] / 100)
    return curve


def nearest(vectors: Vectors, settings: FreezeSettings) -> tuple[npt.NDArray[np.int64], Floats]:
    """(n, k) places of the most similar rows, the row itself first, and (n, k) their weights, 0 where too
    far.

    vectors: (n, d) of length 1. k = min(n, settings.neighbours + 1).
    """
    count = len(vectors)
    k = min(count, settings.neighbours + 1)
    places, weights = np.empty((count, k), np.int64), np.empty((count, k))
    for start in range(0, count, _BLOCK):
        rows = np.arange(start, min(start + _BLOCK, count))
        similarity = vectors[rows] @ vectors.T
        similarity[np.arange(len(rows)), rows] = 2.0  # itself is always first
        chosen = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
        values = np.take_along_axis(similarity, chosen, axis=1)
        # By similarity, then by place: the same order on every run.
        order = np.lexsort((chosen, -values), axis=1)
        places[rows] = np.take_along_axis(chosen, order, axis=1)
        values = np.minimum(np.take_along_axis(values, order, axis=1), 1.0).astype(np.float64)
        weights[rows] = np.where(
            values >= settings.near_cosine, np.maximum(values, 0) ** settings.near_power, 0
        )
    return places, weights


def estimate_relevance(
    questions: Sequence[Question], vectors: Vectors, expected: Floats, settings: FreezeSettings
) -> list[dict[str, Estimate]]:
    """Per question: document → estimate, for documents with any evidence; documents in order of their ids.

    questions: one split's. vectors: (n, d) of length 1, of their texts. expected: from `expected_clicks`.
    """
    names = sorted(
        {look.document_id for question in questions for look in question.looks}
        | {judgement.document_id for question in questions for judgement in question.judgements}
    )
    place_of = {name: place for place, name in enumerate(names)}
    evidence = [_evidence(question, place_of, expected, settings) for question in questions]
    places, weights = nearest(vectors, settings)
    estimates = []
    for row, (own_documents, own_clicks, own_mass) in enumerate(evidence):
        near = [(evidence[j], w) for j, w in zip(places[row], weights[row], strict=True) if w > 0]
        documents, inverse = np.unique(np.concatenate([e[0] for e, _ in near]), return_inverse=True)
        clicks, mass = (
            np.bincount(
                inverse, np.concatenate([e[part] * w for e, w in near]), minlength=len(documents)
            ).astype(np.float64)
            for part in (1, 2)
        )
        own_clicks_here, own_mass_here = np.zeros(len(documents)), np.zeros(len(documents))
        mine = np.searchsorted(documents, own_documents)
        own_clicks_here[mine], own_mass_here[mine] = own_clicks, own_mass
        lift = _lift(clicks, mass, settings)
        others = _lift(clicks - own_clicks_here, mass - own_mass_here, settings)
        columns = (lift, mass, others, own_mass_here, own_clicks_here)
        rounded = np.round(np.stack(columns, axis=1), 6).tolist()
        estimates.append(
            {
                names[document]: Estimate(*row)
                for document, row in zip(documents.tolist(), rounded, strict=True)
            }
        )
    return estimates


def _lift(clicks: Floats, mass: Floats, settings: FreezeSettings) -> Floats:
    lift: Floats = (clicks + settings.prior_clicks * settings.prior_lift) / (mass + settings.prior_clicks)
    return lift


def agreement(
    questions: Sequence[Question], estimates: Sequence[dict[str, Estimate]], expected: Floats
) -> float:
    """z of "what similar questions' users used, this question's users use, too", beyond what rank explains.

    Sum over looks of (used - expected at its rank) × (others' lift - its mean), over its standard deviation
    if the two have nothing to do with each other; about standard normal then. Feedback that says nothing
    about relevance (random, or attached to the wrong queries) gives about 0; feedback worth learning from
    gives far more than 3. 0 without looks.
    """
    residual, others = [], []
    for question, estimate in zip(questions, estimates, strict=True):
        for look in question.looks:
            known = estimate[look.document_id].others if look.document_id in estimate else None
            if known is not None:
                residual.append(look.used - float(expected[look.rank - 1]))
                others.append(known)
    if not residual:
        return 0.0
    products = np.array(residual) * (np.array(others) - np.mean(others))
    spread = float(np.sqrt(np.square(products).sum()))
    return float(products.sum()) / spread if spread > 0 else 0.0


def _evidence(
    question: Question, place_of: dict[str, int], expected: Floats, settings: FreezeSettings
) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
    """Places of documents, clicks and expected clicks of one question. A judged document counts by its
    judgements.
    """
    sums: dict[str, list[float]] = {}
    judged = {judgement.document_id for judgement in question.judgements}
    for look in question.looks:
        if look.document_id not in judged:
            total = sums.setdefault(look.document_id, [0.0, 0.0])
            total[0] += look.used
            total[1] += float(expected[look.rank - 1])
    for judgement in question.judgements:
        total = sums.setdefault(judgement.document_id, [0.0, 0.0])
        mass = settings.judgement_clicks * judgement.weight
        # Relevant: as if used twice as often as expected. Irrelevant: as if never.
        total[0] += 2 * mass * judgement.label
        total[1] += mass
    documents = sorted(sums)
    return (
        np.array([place_of[document] for document in documents], np.int64),
        np.array([sums[document][0] for document in documents]),
        np.array([sums[document][1] for document in documents]),
    )
