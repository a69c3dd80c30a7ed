"""The share of queries with a click, as the watch reads them: what the quality gauges show.

Beside the watch, not in it: the watch decides by tests with a budget of false alarms, an operator looks at
two numbers.
"""

from __future__ import annotations

import datetime as dt
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct

from learners.ports import ObservedQuery, QueryFeed


class ClickedShares(Struct, frozen=True):
    """Shares of queries with a click; None while there are too few queries to say."""

    reference: float | None
    window: float | None


class _Story:
    """The champion's queries so far: its first ones as a sum, its last ones one by one."""

    def __init__(self, champion: str | None, reference_queries: int, window_queries: int) -> None:
        self.champion = champion
        self._reference_queries = reference_queries
        self._first = 0
        self._first_clicked = 0
        self._last: deque[bool] = deque(maxlen=window_queries)
        self._seen_to: tuple[dt.datetime, str] | None = None

    def take(self, queries: Iterable[ObservedQuery]) -> None:
        """Queries in the order of the feed; a page that is read again, after an error, changes nothing."""
        for query in queries:
            place = (query.received_at, query.query_id)
            if self._seen_to is not None and place <= self._seen_to:
                continue
            self._seen_to = place
            if query.pipeline_version != self.champion:
                continue
            clicked = query.clicked_rank is not None
            if self._first < self._reference_queries:
                self._first += 1
                self._first_clicked += clicked
            else:
                self._last.append(clicked)

    def shares(self) -> ClickedShares:
        whole = len(self._last) == self._last.maxlen
        return ClickedShares(
            self._first_clicked / self._first if self._first == self._reference_queries else None,
            sum(self._last) / len(self._last) if whole else None,
        )


class QualityFeed:
    """A `QueryFeed` that remembers, of what passes through it, who clicked.

    A watch life begins with a cursor without a query id, at the time when the champion became it; so does
    what is remembered here. Killed, it comes to the same shares, because the watch reads from there again.
    """

    def __init__(
        self,
        feed: QueryFeed,
        champion_of: Callable[[str], str | None],
        *,
        reference_queries: int,
        window_queries: int,
    ) -> None:
        self._feed = feed
        self._champion_of = champion_of
        self._reference_queries = reference_queries
        self._window_queries = window_queries
        self._stories: dict[str, _Story] = {}

    async def after(
        self, tenant: str, cursor: tuple[dt.datetime, str] | None, until: dt.datetime, limit: int
    ) -> Sequence[ObservedQuery]:
        """As the feed's; raises what it raises."""
        page = await self._feed.after(tenant, cursor, until, limit)
        champion = self._champion_of(tenant)
        story = self._stories.get(tenant)
        if story is None or cursor is None or not cursor[1] or story.champion != champion:
            story = _Story(champion, self._reference_queries, self._window_queries)
            self._stories[tenant] = story
        story.take(page)
        return page

    async def count_since(self, tenant: str, since: dt.datetime, until: dt.datetime) -> int:
        """As the feed's."""
        return await self._feed.count_since(tenant, since, until)

    def shares(self) -> dict[str, ClickedShares]:
        """By tenant, as of the watch's last look: while the learner trains or tries, it does not watch."""
        return {tenant: story.shares() for tenant, story in self._stories.items()}
