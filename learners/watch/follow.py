"""The fold with the two-sample tests in between: what the learner's daemon calls."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from learners.ports import ObservedQuery
from learners.watch.settings import WatchSettings
from learners.watch.state import WatchState, conclude, observe
from learners.watch.tester import Tester
from schemas.interactions import Exposure


async def follow(
    state: WatchState,
    queries: Sequence[ObservedQuery],
    settings: WatchSettings,
    test: Tester,
    not_counted: Collection[Exposure] = (),
) -> tuple[WatchState, int]:
    """`observe`, with every window tested that closes on the way; stops at the alarm, if one is raised.

    Returns the state and how many queries it took: all, unless there is an alarm. Raises Retryable if `test`
    does; then nothing happened and the call may be made again with the same arguments.
    """
    taken = 0
    while state.alarm is None and (taken < len(queries) or state.question is not None):
        if state.question is not None:
            state = conclude(state, await test(state.question), settings)
            continue
        state, used = observe(state, queries[taken:], settings, not_counted)
        taken += used
    return state, taken
