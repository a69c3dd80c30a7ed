"""The watch depends on the sequence of queries, not on how it came."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.watch.settings import WatchSettings
from tests.unit.watch_streams import stream, watch

SMALL = WatchSettings(reference_queries=120, window_queries=50)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.integers(1, 400),
    click_rate=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_any_cut_gives_the_same_windows_and_alarm(seed: int, cuts: int, click_rate: float) -> None:
    rng = np.random.default_rng(seed)
    queries = stream(rng, 250, click_rate=0.9, top_score=0.75)
    queries += stream(rng, 250, click_rate=click_rate, top_score=0.7, start=250)
    whole, taken = watch(queries, SMALL)
    pieces, taken_in_pieces = watch(queries, SMALL, cuts)
    assert (taken, whole.windows, whole.block, whole.counted) == (
        taken_in_pieces,
        pieces.windows,
        pieces.block,
        pieces.counted,
    )
    if whole.alarm is None:
        assert pieces.alarm is None
        return
    assert pieces.alarm is not None
    assert pieces.alarm.last_query_id == whole.alarm.last_query_id
    for left, right in zip(pieces.alarm.signals, whole.alarm.signals, strict=True):
        assert (left.column, left.fired) == (right.column, right.fired)
        assert left.statistic == pytest.approx(right.statistic)
