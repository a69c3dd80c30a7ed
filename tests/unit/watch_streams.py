"""Streams of watched queries with a known click rate and a known mean top score."""

from __future__ import annotations

import datetime as dt

import numpy as np
from scipy.stats import ks_2samp

from learners.ports import ObservedQuery
from learners.watch.settings import WatchSettings
from learners.watch.state import WatchState, conclude, observe
from learners.watch.two_sample import WindowTest
from schemas.interactions import Exposure

CHAMPION = "1.0.0"
START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def query(
    number: int,
    *,
    text: str = "a question",
    unit: str | None = None,
    scores: tuple[float, ...] = (0.9, 0.5),
    clicked_rank: int | None = 1,
    thumbs_down: int = 0,
    version: str = CHAMPION,
    exposures: tuple[Exposure, ...] = (),
) -> ObservedQuery:
    return ObservedQuery(
        query_id=f"q{number:06d}",
        received_at=START + dt.timedelta(seconds=number),
        text=text,
        unit=unit,
        pipeline_version=version,
        exposures=exposures,
        scores=scores,
        clicked_rank=clicked_rank,
        thumbs_up=0,
        thumbs_down=thumbs_down,
    )


def stream(
    rng: np.random.Generator, length: int, *, click_rate: float, top_score: float, start: int = 0
) -> list[ObservedQuery]:
    """Independent queries: top score Normal(top_score, .1), ranks geometric, 1 % of clicks thumbed down."""
    tops = rng.normal(top_score, 0.1, length)
    steps = np.abs(rng.normal(0.1, 0.04, (length, 9)))
    scores = np.concatenate([tops[:, None], tops[:, None] - np.cumsum(steps, axis=1)], axis=1)
    clicked = rng.random(length) < click_rate
    ranks = np.minimum(rng.geometric(0.5, length), 10)
    down = clicked & (rng.random(length) < 0.01)
    lengths = rng.integers(10, 90, length)
    return [
        query(
            start + i,
            text="x" * int(lengths[i]),
            scores=tuple(float(score) for score in scores[i]),
            clicked_rank=int(ranks[i]) if clicked[i] else None,
            thumbs_down=int(down[i]),
        )
        for i in range(length)
    ]


def ks_p_values(question: WindowTest) -> dict[str, float]:
    """What the two-sample process answers, without Evidently around it (see test_watch_two_sample)."""
    return {
        column: float(ks_2samp(question.reference[column], values).pvalue)
        for column, values in question.current.items()
    }


def watch(queries: list[ObservedQuery], settings: WatchSettings, cuts: int = 10**9) -> tuple[WatchState, int]:
    """The state after these queries, given in calls of `cuts`, and how many were taken."""
    state, taken = WatchState(champion=CHAMPION), 0
    while taken < len(queries) and state.alarm is None:
        state, used = observe(state, queries[taken : taken + cuts], settings)
        taken += used
        if state.question is not None:
            state = conclude(state, ks_p_values(state.question), settings)
    return state, taken
