"""The watch as a pure fold: queries in, an alarm or a question for the two-sample tests out.

The state depends on the sequence of queries alone, not on the clock and not on how the sequence was cut into
calls. So a daemon that was killed starts at the first query again and comes to the same windows, tests and
alarms.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from msgspec import Struct

from learners.ports import ObservedQuery
from learners.statistics.spending import spend
from learners.watch.columns import COLUMN_NAMES, counts
from learners.watch.reference import Bets, Reference, bet_signals, fix_reference, place_bets, values_of
from learners.watch.settings import WatchSettings
from learners.watch.two_sample import METHOD, WindowTest
from schemas.interactions import Exposure
from schemas.lifecycle import DriftDetected, DriftSignal


class WatchState(Struct, frozen=True, kw_only=True):
    """One watch life: from the champion's first query, or the one after its last alarm, to the next alarm."""

    champion: str
    reference: Reference | None = None
    bets: Bets = ()
    #: Windows that are closed.
    windows: int = 0
    #: The queries of the open block (the reference, then a window) that counted.
    block: tuple[ObservedQuery, ...] = ()
    #: A closed window that waits for its two-sample tests; no query is taken before `conclude`.
    question: WindowTest | None = None
    #: Set once; no query is taken after it.
    alarm: DriftDetected | None = None
    #: Queries that counted, and such that did not.
    counted: int = 0
    passed_over: int = 0

    @property
    def waits(self) -> bool:
        """Whether it takes no query now."""
        return self.question is not None or self.alarm is not None


def observe(
    state: WatchState,
    queries: Sequence[ObservedQuery],
    settings: WatchSettings,
    not_counted: Collection[Exposure] = (),
) -> tuple[WatchState, int]:
    """The state after a prefix of these queries, and the prefix's length.

    `queries` are settled, in the order of (received time, query_id), and follow those seen before. It stops
    after the query that closes a window or raises the alarm; go on with `queries[length:]` after `conclude`.
    Queries that another version served, that show an arm in `not_counted`, or that repeat a text by the same
    unit within a block are passed over: one person who asks again and again is no drift.
    """
    taken = 0
    while taken < len(queries) and not state.waits:
        state, used = _fill_block(state, queries[taken:], settings, not_counted)
        taken += used
    return state, taken


def _fill_block(
    state: WatchState,
    queries: Sequence[ObservedQuery],
    settings: WatchSettings,
    not_counted: Collection[Exposure],
) -> tuple[WatchState, int]:
    """Queries up to the end of the open block, or all, or up to an alarm."""
    size = settings.reference_queries if state.reference is None else settings.window_queries
    seen = {(query.unit, query.text) for query in state.block if query.unit is not None}
    fresh: list[tuple[int, ObservedQuery]] = []
    used = 0
    for used, query in enumerate(queries, start=1):
        repeat = (query.unit, query.text) in seen
        if not repeat and counts(query, state.champion, not_counted):
            fresh.append((used, query))
            if query.unit is not None:
                seen.add((query.unit, query.text))
            if len(state.block) + len(fresh) == size:
                break
    bets, alarmed = state.bets, None
    if state.reference is not None and fresh:
        bets, alarmed = place_bets(state.bets, state.reference, [query for _, query in fresh])
    if alarmed is not None:
        fresh = fresh[:alarmed]
        used = fresh[-1][0]
    state = msgspec.structs.replace(
        state,
        bets=bets,
        block=(*state.block, *(query for _, query in fresh)),
        counted=state.counted + len(fresh),
        passed_over=state.passed_over + used - len(fresh),
    )
    if alarmed is not None:
        return _with_alarm(state, bet_signals(bets), settings), used
    return (_close_block(state, settings) if len(state.block) == size else state), used


def _close_block(state: WatchState, settings: WatchSettings) -> WatchState:
    if state.reference is None:
        reference, bets = fix_reference(state.block, settings)
        return msgspec.structs.replace(state, reference=reference, bets=bets, block=())
    current = values_of(state.block)
    shared = [name for name in COLUMN_NAMES if name in state.reference.columns and name in current]
    window = state.windows + 1
    if not shared:
        return msgspec.structs.replace(state, windows=window, block=())
    question = WindowTest(
        window=window,
        threshold=spend(settings.two_sample_alpha, window) / len(COLUMN_NAMES),
        reference={name: state.reference.columns[name] for name in shared},
        current={name: current[name] for name in shared},
    )
    return msgspec.structs.replace(state, question=question)


def conclude(state: WatchState, p_values: dict[str, float], settings: WatchSettings) -> WatchState:
    """The state after the two-sample tests of the closed window: the next window is open, or the alarm is
    raised.

    Raises ValueError: no window waits, or the p-values are not those of its columns.
    """
    question = state.question
    if question is None:
        raise ValueError("no window waits for its tests; observe queries until one does")
    if p_values.keys() != question.current.keys() or not all(0 <= p <= 1 for p in p_values.values()):
        raise ValueError(
            f"window {question.window} needs a p-value for each of {sorted(question.current)}, got {p_values}"
        )
    tests = tuple(
        DriftSignal(
            column=column,
            method=f"evidently {METHOD}, two-sided",
            statistic=p,
            threshold=question.threshold,
            p_value=p,
            fired=p <= question.threshold,
        )
        for column, p in sorted(p_values.items())
    )
    if any(test.fired for test in tests):
        return _with_alarm(state, (*tests, *bet_signals(state.bets)), settings)
    return msgspec.structs.replace(state, windows=question.window, block=(), question=None)


def _with_alarm(state: WatchState, signals: tuple[DriftSignal, ...], settings: WatchSettings) -> WatchState:
    assert state.reference is not None
    alarm = DriftDetected(
        champion=state.champion,
        window=state.windows + 1,
        reference_queries=state.reference.queries,
        window_queries=len(state.block),
        first_query_id=state.block[0].query_id,
        last_query_id=state.block[-1].query_id,
        signals=signals,
        alpha=settings.alpha,
    )
    return msgspec.structs.replace(state, alarm=alarm, question=None)


def e_values(state: WatchState) -> dict[str, float]:
    """Present e-value by signal, for gauges; 1 is where a bet starts."""
    return {signal.column: signal.statistic for signal in bet_signals(state.bets)}
