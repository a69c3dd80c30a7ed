"""The built-in measures: what one query counts for its unit. The list is part of the fold's version.

A measure is there whenever it is defined for the query, zeros included, so that its mean over rows is a
mean over the queries for which it is defined. Feedback counts only if it stands and a person gave it: what
a model or a rule says of a result is no behaviour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from msgspec import Struct

from schemas.episodes import EpisodeAnswer, EpisodeFeedback, EpisodeRetrieval, Measurement

Direction = Literal["higher_is_better", "lower_is_better", "neutral"]


class MeasureDefinition(Struct, frozen=True):
    """A built-in measure of a query."""

    name: str
    unit: str
    direction: Direction
    #: What it counts, and when it is defined, if not always.
    meaning: str


MEASURES: Final[tuple[MeasureDefinition, ...]] = (
    MeasureDefinition("queries", "queries", "neutral", "1 for every query."),
    MeasureDefinition("retrievals", "lists", "neutral", "Result lists shown (not shadow)."),
    MeasureDefinition("retrieval_errors", "lists", "lower_is_better", "Lists that could not be made."),
    MeasureDefinition(
        "zero_hits",
        "0 or 1",
        "lower_is_better",
        "The served list is empty though there was no error. Only if a list was served.",
    ),
    MeasureDefinition("clicks", "clicks", "neutral", "Clicks, on documents that no list showed, too."),
    MeasureDefinition("clicked", "0 or 1", "higher_is_better", "There is a click."),
    MeasureDefinition(
        "reciprocal_rank",
        "1/rank",
        "higher_is_better",
        "1 / best rank clicked in a shown list; 0 without such a click. Only if a list was served.",
    ),
    MeasureDefinition("copies", "copies", "higher_is_better", "Texts copied."),
    MeasureDefinition("thumbs_up", "thumbs", "higher_is_better", "Thumbs up, on whatever was shown."),
    MeasureDefinition("thumbs_down", "thumbs", "lower_is_better", "Thumbs down, on whatever was shown."),
    MeasureDefinition("answers", "answers", "neutral", "Generated answers, failed ones too."),
    MeasureDefinition("answer_errors", "answers", "lower_is_better", "Answers that failed."),
    MeasureDefinition("abandoned", "0 or 1", "lower_is_better", "The person gave up (`abandonment`)."),
    MeasureDefinition("reformulated", "0 or 1", "lower_is_better", "The person asked again (`follow_up`)."),
    MeasureDefinition("dwell_s", "seconds", "higher_is_better", "Time spent, summed. Only if reported."),
    MeasureDefinition("stars", "stars", "higher_is_better", "Mean of the stars. Only if there are any."),
    MeasureDefinition(
        "retrieval_latency_ms", "ms", "lower_is_better", "Of the served list. Only if reported."
    ),
    MeasureDefinition(
        "answer_latency_ms", "ms", "lower_is_better", "Of the latest answer. Only if reported."
    ),
    MeasureDefinition("answer_cost_usd", "US dollars", "lower_is_better", "Summed. Only if reported."),
)


class FeedbackCounts(Struct, frozen=True):
    """People's feedback on one query, counted."""

    clicks: int = 0
    best_rank_clicked: int | None = None
    copies: int = 0
    thumbs_up: int = 0
    thumbs_down: int = 0
    abandonments: int = 0
    follow_ups: int = 0
    dwells_s: tuple[float, ...] = ()
    stars: tuple[float, ...] = ()


def count_feedback(feedback: Sequence[EpisodeFeedback]) -> FeedbackCounts:
    """Count the feedback that people gave. `best_rank_clicked` is of shown documents only."""
    kinds: dict[str, int] = {}
    up = down = 0
    best: int | None = None
    dwells_s: list[float] = []
    stars: list[float] = []
    for item in feedback:
        if item.rater != "human":
            continue
        kind, value = item.kind, item.value
        kinds[kind] = kinds.get(kind, 0) + 1
        if kind == "click":
            if item.rank is not None and (best is None or item.rank < best):
                best = item.rank
        elif value is None:
            continue
        elif kind == "thumb":
            up += value > 0
            down += value < 0
        elif kind == "dwell":
            dwells_s.append(value)
        elif kind == "stars":
            stars.append(value)
    return FeedbackCounts(
        clicks=kinds.get("click", 0),
        best_rank_clicked=best,
        copies=kinds.get("copy", 0),
        thumbs_up=up,
        thumbs_down=down,
        abandonments=kinds.get("abandonment", 0),
        follow_ups=kinds.get("follow_up", 0),
        dwells_s=tuple(dwells_s),
        stars=tuple(stars),
    )


def measure_query(
    retrievals: Sequence[EpisodeRetrieval],
    answers: Sequence[EpisodeAnswer],
    feedback: Sequence[EpisodeFeedback],
) -> tuple[Measurement, ...]:
    """The measures of one query, in the order of `MEASURES`; all sequences in order of effective time."""
    shown = [r for r in retrievals if not r.shadow]
    served = shown[-1] if shown else None
    counts = count_feedback(feedback)
    costs = [a.cost_usd for a in answers if a.cost_usd is not None]
    best = counts.best_rank_clicked
    values: dict[str, float | None] = {
        "queries": 1,
        "retrievals": len(shown),
        "retrieval_errors": sum(r.error is not None for r in shown),
        "zero_hits": None if served is None else not served.hits and served.error is None,
        "clicks": counts.clicks,
        "clicked": counts.clicks > 0,
        "reciprocal_rank": None if served is None else 0 if best is None else 1 / best,
        "copies": counts.copies,
        "thumbs_up": counts.thumbs_up,
        "thumbs_down": counts.thumbs_down,
        "answers": len(answers),
        "answer_errors": sum(a.error is not None for a in answers),
        "abandoned": counts.abandonments > 0,
        "reformulated": counts.follow_ups > 0,
        "dwell_s": sum(counts.dwells_s) if counts.dwells_s else None,
        "stars": sum(counts.stars) / len(counts.stars) if counts.stars else None,
        "retrieval_latency_ms": None if served is None else served.latency_ms,
        "answer_latency_ms": answers[-1].latency_ms if answers else None,
        "answer_cost_usd": sum(costs) if costs else None,
    }
    return tuple(Measurement(name, float(value)) for name, value in values.items() if value is not None)
