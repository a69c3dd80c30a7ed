"""The watch: false alarms, delay, what counts, what it says."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from learners.watch.settings import WatchSettings
from learners.watch.state import WatchState, conclude, e_values, observe
from schemas.lifecycle import DriftDetected
from tests.unit.watch_streams import CHAMPION, query, stream, watch

SETTINGS = WatchSettings()


def test_false_alarms_stay_in_the_budget() -> None:
    """60 streams of 4,400 queries without change: at 5 % more than 7 alarms have a chance of 1 %."""
    alarms = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        state, _ = watch(stream(rng, 4_400, click_rate=0.62, top_score=0.75), SETTINGS)
        alarms += state.alarm is not None
    assert alarms <= 7


@pytest.mark.parametrize(
    ("click_rate", "top_score", "columns", "median_delay"),
    [
        (0.45, 0.75, {"no_click", "no_top_click", "reciprocal_rank"}, 800),
        (0.62, 0.65, {"top_score", "low_top_score"}, 200),
    ],
)
def test_a_change_is_noticed(
    click_rate: float, top_score: float, columns: set[str], median_delay: int
) -> None:
    delays = []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        queries = stream(rng, 1_200, click_rate=0.62, top_score=0.75)
        queries += stream(rng, 2_500, click_rate=click_rate, top_score=top_score, start=1_200)
        state, taken = watch(queries, SETTINGS)
        assert state.alarm is not None
        assert {signal.column for signal in state.alarm.signals if signal.fired} <= columns
        delays.append(taken - 1_200)
    assert 0 < np.median(delays) <= median_delay


def test_the_alarm_says_where_and_why() -> None:
    rng = np.random.default_rng(5)
    queries = stream(rng, 700, click_rate=0.9, top_score=0.75)
    queries += stream(rng, 400, click_rate=0.1, top_score=0.75, start=700)
    state, taken = watch(queries, SETTINGS)
    alarm = state.alarm
    assert alarm is not None
    assert (alarm.champion, alarm.window, alarm.alpha) == (CHAMPION, 2, 0.05)
    assert (alarm.first_query_id, alarm.last_query_id) == ("q000600", f"q{taken - 1:06d}")
    assert (alarm.reference_queries, alarm.window_queries) == (400, taken - 600)
    fired = [signal for signal in alarm.signals if signal.fired]
    assert fired
    assert all(signal.p_value is not None and signal.method for signal in alarm.signals)
    assert msgspec.json.decode(msgspec.json.encode(alarm), type=DriftDetected) == alarm
    assert observe(state, queries[taken:], SETTINGS) == (state, 0)


def test_a_closed_window_waits_for_its_tests() -> None:
    queries = stream(np.random.default_rng(1), 900, click_rate=0.6, top_score=0.75)
    state, taken = observe(WatchState(champion=CHAMPION), queries, SETTINGS)
    assert (taken, state.counted) == (600, 600)
    question = state.question
    assert question is not None
    assert {len(values) for values in question.current.values()} == {200}
    assert {len(values) for values in question.reference.values()} == {400}
    with pytest.raises(ValueError, match="needs a p-value for each"):
        conclude(state, {"top_score": 0.5}, SETTINGS)
    quiet = conclude(state, dict.fromkeys(question.current, 0.5), SETTINGS)
    assert (quiet.windows, quiet.block, quiet.alarm) == (1, (), None)
    with pytest.raises(ValueError, match="no window waits"):
        conclude(quiet, {}, SETTINGS)
    loud = conclude(state, {**dict.fromkeys(question.current, 0.5), "score_gap": 0.0}, SETTINGS)
    assert loud.alarm is not None
    (fired,) = (signal for signal in loud.alarm.signals if signal.fired)
    assert (fired.column, fired.method) == ("score_gap", "evidently ks, two-sided")


def test_the_tests_share_their_alpha() -> None:
    queries = stream(np.random.default_rng(2), 4_400, click_rate=0.6, top_score=0.75)
    state, taken, spent = WatchState(champion=CHAMPION), 0, 0.0
    while taken < len(queries):
        state, used = observe(state, queries[taken:], SETTINGS)
        taken += used
        if state.question is not None:
            spent += state.question.threshold * len(state.question.current)
            state = conclude(state, dict.fromkeys(state.question.current, 0.5), SETTINGS)
    bets = sum(bet.alpha for bet in state.bets if bet is not None) / (1 - SETTINGS.reference_share)
    assert state.windows == 20
    assert spent + bets <= SETTINGS.alpha


def test_other_versions_and_repeats_are_passed_over() -> None:
    queries = [query(n, unit="u", text="same words") for n in range(50)]
    queries += [query(n, unit="u", text=f"words {n}", version="2.0.0") for n in range(50)]
    queries += [query(n, unit=None, text="same words") for n in range(50)]
    state, taken = observe(WatchState(champion=CHAMPION), queries, SETTINGS)
    assert (taken, state.counted, state.passed_over) == (150, 51, 99)


def test_an_application_without_scores_and_clicks_is_watched_by_what_it_reports() -> None:
    queries = [query(n, text="x" * (n % 40 + 1), scores=(), clicked_rank=None) for n in range(700)]
    state, _ = observe(WatchState(champion=CHAMPION), queries, SETTINGS)
    assert state.question is not None
    assert set(state.question.current) == {"reciprocal_rank", "query_length"}
    assert set(e_values(state)) == {"thumbs_down"}
