"""The quality gauges: shares of the champion's first and last queries, as the watch read them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import pytest

from api.processes.quality import ClickedShares, QualityFeed
from learners.ports import ObservedQuery

START = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
CHAMPION = "1.0.0"


def query(number: int, *, clicked: bool, version: str = CHAMPION) -> ObservedQuery:
    """A query received `number` seconds after the start."""
    return ObservedQuery(
        query_id=f"q{number:06}",
        received_at=START + dt.timedelta(seconds=number),
        text=f"question {number}",
        unit="ada",
        pipeline_version=version,
        exposures=(),
        scores=(0.9,),
        clicked_rank=1 if clicked else None,
        thumbs_up=0,
        thumbs_down=0,
    )


class KnownQueries:
    """A feed over a list in memory."""

    def __init__(self, queries: Sequence[ObservedQuery]) -> None:
        self.queries = queries

    async def after(
        self, tenant: str, cursor: tuple[dt.datetime, str] | None, until: dt.datetime, limit: int
    ) -> Sequence[ObservedQuery]:
        """As the port says."""
        behind = cursor or (START - dt.timedelta(1), "")
        later = [q for q in self.queries if (q.received_at, q.query_id) > behind and q.received_at <= until]
        return later[:limit]

    async def count_since(self, tenant: str, since: dt.datetime, until: dt.datetime) -> int:
        """As the port says."""
        return sum(since < q.received_at <= until for q in self.queries)


async def read_all(feed: QualityFeed, page: int) -> int:
    """Reads as the watch does: from the champion's beginning, a page after another."""
    cursor = (START - dt.timedelta(seconds=1), "")
    taken = 0
    while found := await feed.after("acme", cursor, START + dt.timedelta(days=1), page):
        taken += len(found)
        cursor = (found[-1].received_at, found[-1].query_id)
    return taken


def feed_over(queries: Sequence[ObservedQuery]) -> QualityFeed:
    """Reference of 10, window of 4."""
    return QualityFeed(KnownQueries(queries), lambda _: CHAMPION, reference_queries=10, window_queries=4)


FALLEN = [query(n, clicked=n % 10 < 6) for n in range(10)] + [
    query(n, clicked=n == 21) for n in range(10, 22)
]


@pytest.mark.parametrize("page", [1, 7, 1000])
async def test_the_shares_do_not_depend_on_the_pages(page: int) -> None:
    feed = feed_over(FALLEN)
    assert await read_all(feed, page) == len(FALLEN)
    assert feed.shares() == {"acme": ClickedShares(0.6, 0.25)}


async def test_a_new_watch_life_begins_anew() -> None:
    feed = feed_over(FALLEN)
    await read_all(feed, 7)
    await read_all(feed, 7)
    assert feed.shares() == {"acme": ClickedShares(0.6, 0.25)}


async def test_what_another_version_served_does_not_count() -> None:
    others = [query(100 + n, clicked=True, version="1.1.0") for n in range(50)]
    feed = feed_over([*FALLEN, *others])
    await read_all(feed, 1000)
    assert feed.shares() == {"acme": ClickedShares(0.6, 0.25)}


async def test_too_few_queries_say_nothing() -> None:
    feed = feed_over(FALLEN[:9])
    await read_all(feed, 1000)
    assert feed.shares() == {"acme": ClickedShares(None, None)}
    feed = feed_over(FALLEN[:13])
    await read_all(feed, 1000)
    assert feed.shares() == {"acme": ClickedShares(0.6, None)}


async def test_a_page_that_is_read_again_counts_once() -> None:
    feed = feed_over(FALLEN)
    await read_all(feed, 10)
    cursor = (FALLEN[9].received_at, FALLEN[9].query_id)
    for _ in range(3):
        await feed.after("acme", cursor, START + dt.timedelta(days=1), 10)
    assert feed.shares() == {"acme": ClickedShares(0.6, 0.25)}


async def test_it_counts_as_the_feed_does() -> None:
    feed = feed_over(FALLEN)
    assert await feed.count_since("acme", START, START + dt.timedelta(seconds=5)) == 5
