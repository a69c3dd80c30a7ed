"""The watch of one tenant: queries from the feed into the fold, an alarm into the log."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

from learners.daemon.journal import Journal
from learners.ports import ObservedQuery, QueryFeed
from learners.watch.follow import follow
from learners.watch.settings import WatchSettings
from learners.watch.state import WatchState
from learners.watch.tester import Tester
from schemas.interactions import Exposure
from schemas.serving import CHALLENGER_ARM
from schemas.tenant_state import LifecycleState

#: Queries fetched at a time.
PAGE = 1000


class Watching:
    """A watch life: from the champion's first query, or the one after its last alarm, to the next alarm.

    It holds nothing that could be lost: a new one starts at the first query and comes to the same alarm.
    """

    def __init__(self, tenant: str, life: str, state: LifecycleState) -> None:
        assert state.champion is not None
        assert state.champion_since is not None
        self.tenant = tenant
        #: What names this life: it ends when this changes.
        self.life = life
        self.watch = WatchState(champion=state.champion)
        self._cursor: tuple[dt.datetime, str] | None = (state.champion_since, "")
        # After an alarm the watch goes on behind the last query that it was raised on.
        self._skip_to = state.last_drift[1].last_query_id if state.last_drift is not None else ""
        self._skip_until = state.last_drift_at

    async def look(
        self, state: LifecycleState, feed: QueryFeed, settings: WatchSettings, test: Tester, journal: Journal
    ) -> bool:
        """Take what settled since the last look; whether an alarm was accepted. Raises Retryable."""
        until = journal.now() - dt.timedelta(seconds=settings.settle_s)
        while self.watch.alarm is None:
            page = await feed.after(self.tenant, self._cursor, until, PAGE)
            if not page:
                return False
            queries, skip_to = self._unskipped(page)
            self.watch, _ = await follow(self.watch, queries, settings, test, _challenger_arms(state))
            self._skip_to = skip_to
            self._cursor = (page[-1].received_at, page[-1].query_id)
        return (await journal.write(self.tenant, self.watch.alarm, cause=self.life)).accepted

    def _unskipped(self, page: Sequence[ObservedQuery]) -> tuple[Sequence[ObservedQuery], str]:
        """The queries behind the one to skip to, and what is still to be skipped to.

        A query that came after the alarm is behind it: the one to skip to may be gone from the log.
        """
        if not self._skip_to:
            return page, ""
        for index, query in enumerate(page):
            if query.query_id == self._skip_to:
                return page[index + 1 :], ""
            if self._skip_until is not None and query.received_at > self._skip_until:
                return page[index:], ""
        return (), self._skip_to


def _challenger_arms(state: LifecycleState) -> tuple[Exposure, ...]:
    if state.rollout is None:
        return ()
    return (Exposure(state.rollout.started.rollout, CHALLENGER_ARM),)


def life_of(state: LifecycleState) -> str:
    """What names the present watch life: the event that began it."""
    if state.last_drift is not None:
        return state.last_drift[0]
    return state.champion_by or ""
