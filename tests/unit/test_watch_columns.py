"""What the watch reads from one query."""

from __future__ import annotations

import math

import pytest

from learners.watch.columns import SIGNAL_NAMES, columns_of, counts, signals_of
from schemas.interactions import Exposure
from tests.unit.watch_streams import CHAMPION, query


def test_columns_of_a_clicked_list() -> None:
    columns = columns_of(query(1, text="four", scores=(0.9, 0.8, 0.7, 0.6, 0.5, 0.1), clicked_rank=4))
    assert (columns.top_score, columns.reciprocal_rank, columns.query_length) == (0.9, 0.25, 4.0)
    assert columns.score_gap == pytest.approx(0.4)


def test_columns_without_list_or_click() -> None:
    columns = columns_of(query(1, scores=(), clicked_rank=None))
    assert math.isnan(columns.top_score)
    assert math.isnan(columns.score_gap)
    assert columns.reciprocal_rank == 0.0


@pytest.mark.parametrize(
    ("clicked_rank", "thumbs_down", "scores", "fired"),
    [
        (1, 0, (0.9,), set()),
        (4, 1, (0.9,), {"no_top_click", "thumbs_down"}),
        (None, 0, (0.4,), {"no_click", "no_top_click", "low_top_score"}),
        (3, 0, (), {"low_top_score"}),
    ],
)
def test_signals(
    clicked_rank: int | None, thumbs_down: int, scores: tuple[float, ...], fired: set[str]
) -> None:
    seen = query(1, clicked_rank=clicked_rank, thumbs_down=thumbs_down, scores=scores)
    signals = dict(zip(SIGNAL_NAMES, signals_of(seen, low_score=0.5), strict=True))
    assert {name for name, on in signals.items() if on} == fired
    assert not signals_of(seen, low_score=None)[SIGNAL_NAMES.index("low_top_score")]


def test_only_the_champions_own_traffic_counts() -> None:
    challenger_arm = Exposure("rollout-1", "challenger")
    assert counts(query(1), CHAMPION)
    assert not counts(query(1, version="1.1.0"), CHAMPION)
    exposed = query(1, exposures=(Exposure("colour", "green"), challenger_arm))
    assert counts(exposed, CHAMPION)
    assert not counts(exposed, CHAMPION, {challenger_arm})
