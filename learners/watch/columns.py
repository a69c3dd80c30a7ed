"""One query as numbers and as yes/no signals. No label, no vector: what the list, the text and the clicks
say.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Final

from msgspec import Struct

from learners.ports import ObservedQuery
from schemas.interactions import Exposure

#: A click below this rank is no success of the list's top.
TOP_RANKS: Final = 3
#: The gap is between the best score and the one at this rank.
GAP_RANK: Final = 5


class Columns(Struct, frozen=True, kw_only=True, array_like=True):
    """What the two-sample tests compare; nan where the query says nothing."""

    top_score: float
    #: Best score minus the one at `GAP_RANK` (or the last): how much the list knows what it wants.
    score_gap: float
    #: 1 / rank of the topmost click, 0 without a click.
    reciprocal_rank: float
    #: Characters.
    query_length: float


COLUMN_NAMES: Final = Columns.__struct_fields__

#: Yes/no signals that say something bad; a bet asks whether their rate rose.
SIGNAL_NAMES: Final = ("no_click", "no_top_click", "thumbs_down", "low_top_score")


def columns_of(query: ObservedQuery) -> Columns:
    """The numeric columns of a query."""
    scores = [score for score in query.scores if math.isfinite(score)]
    return Columns(
        top_score=scores[0] if scores else math.nan,
        score_gap=scores[0] - scores[min(GAP_RANK, len(scores)) - 1] if len(scores) > 1 else math.nan,
        reciprocal_rank=1 / query.clicked_rank if query.clicked_rank else 0.0,
        query_length=float(len(query.text)),
    )


def signals_of(query: ObservedQuery, low_score: float | None) -> tuple[bool, bool, bool, bool]:
    """The signals of a query, in the order of `SIGNAL_NAMES`.

    `low_score`: top scores below it are low, and so is an empty list; None: scores say nothing here.
    """
    rank = query.clicked_rank
    low = low_score is not None and (not query.scores or query.scores[0] < low_score)
    return (rank is None, rank is None or rank > TOP_RANKS, query.thumbs_down > 0, low)


def counts(query: ObservedQuery, champion: str, not_counted: Collection[Exposure] = ()) -> bool:
    """Whether this query is watched: the champion served it, and no arm in `not_counted` was shown to its
    unit.
    """
    return query.pipeline_version == champion and not any(e in not_counted for e in query.exposures)
