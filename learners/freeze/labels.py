"""From estimates to what a trainer and a judge read: positives, masks, negatives; grades."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from learners.freeze.relevance import Estimate
from learners.freeze.settings import FreezeSettings


class TrainQuestion(Struct, frozen=True, kw_only=True):
    """A line of train.jsonl: a question with a positive.

    No document of `masked` (the positives are among them) may be a negative of this question in a batch: it
    was used for this question, or may well be relevant. `negatives` were looked at and left, best placed
    first.
    """

    question_id: str
    text: str
    #: question_id of the group's leader.
    group: str
    #: How often it was asked.
    queries: int
    #: Document → weight in (0, 1], heaviest first: about the chance that it is relevant.
    positives: dict[str, float]
    masked: tuple[str, ...]
    negatives: tuple[str, ...]


class GradedQuestion(Struct, frozen=True, kw_only=True):
    """A line of validation.jsonl or judge.jsonl: a question with a document that is relevant.

    A document that is not in `labels` is unlabelled, not irrelevant.
    """

    question_id: str
    text: str
    group: str
    queries: int
    #: Document → grade in [0, 1].
    labels: dict[str, float]


def train_labels(
    estimates: Mapping[str, Estimate], settings: FreezeSettings
) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
    """Positives with weights, masked documents, vetted negatives; see `TrainQuestion`."""
    by_lift = sorted(estimates.items(), key=lambda item: (-item[1].lift, item[0]))
    positives = {
        document: round(min(1.0, estimate.lift - settings.prior_lift), 6)
        for document, estimate in by_lift[: settings.positives]
        if estimate.lift >= settings.positive_lift
    }
    masked = {
        document for document, estimate in by_lift if estimate.used > 0 or estimate.lift > settings.prior_lift
    }
    refused = [
        (-estimate.own, estimate.lift, document)
        for document, estimate in estimates.items()
        if estimate.lift < settings.negative_lift and document not in masked
    ]
    negatives = tuple(document for _, _, document in sorted(refused)[: settings.negatives])
    return positives, tuple(sorted(masked | positives.keys())), negatives


def grades(estimates: Mapping[str, Estimate], settings: FreezeSettings) -> dict[str, float]:
    """Document → grade in [0, 1]: its lift above the prior's; with too few expected clicks it has none.

    A question's own clicks alone would favour the champion: it put what was clicked where it was seen. Lift
    takes the rank out, and similar questions of the split fill in what the champion's list did not show.
    """
    return {
        document: round(min(1.0, max(0.0, estimate.lift - settings.prior_lift)), 6)
        for document, estimate in sorted(estimates.items())
        if estimate.expected >= settings.label_clicks
    }
