"""What the learner reads from the real engine: queries in their order, and what an experiment's units did."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import pytest
from clickhouse_connect.driver.client import Client
from msgspec import Struct

from infra.clickhouse.connection import open_client
from infra.clickhouse.learning import ClickHouseQueryFeed, ClickHouseUnitMeasures
from infra.clickhouse.migrate import migrate
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from learners.ports import Offsets
from schemas.codec import encode_event, seal_event
from schemas.interactions import Exposure, FeedbackGiven, Hit, QueryAsked, RetrievalServed, Target
from schemas.topics import INTERACTIONS, record_key
from streams.batch import BatchProcessor
from streams.memory import MemoryLog
from streams.ports import Message
from streams.settings import StreamSettings
from tests.live_services import running_engine

pytestmark = pytest.mark.service
START = dt.datetime(2026, 3, 1, 9, 0, tzinfo=dt.UTC)
SETTLE_S = 30.0


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a real engine with our tables."""
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        opened = open_client(settings)
        migrate(opened)
        yield opened


def at(seconds: float) -> dt.datetime:
    return START + dt.timedelta(seconds=seconds)


def store(
    client: Client,
    tenant: str,
    payloads: list[tuple[Struct, float]],
    clicked_at: dt.datetime | None = None,
) -> None:
    """Fold and write these payloads, received at these seconds. `clicked_at`: what feedback says itself."""
    processor = BatchProcessor(
        ClickHouseRowSink(client), ClickHouseRecordLookup(client), MemoryLog(), StreamSettings()
    )
    messages = []
    for number, (payload, seconds) in enumerate(payloads):
        event = seal_event(
            payload,
            id=f"e{number}",
            source="t",
            tenant=tenant,
            recordedtime=at(seconds),
            time=clicked_at if isinstance(payload, FeedbackGiven) else None,
        )
        key = record_key(tenant, event.subject)
        messages.append(Message(INTERACTIONS, 0, number, key, encode_event(event), 0))
    asyncio.run(processor.process(INTERACTIONS, messages))


def question(number: int, *, unit: str = "u", exposures: tuple[Exposure, ...] = ()) -> QueryAsked:
    return QueryAsked(query_id=f"q{number:03}", text=f"text {number}", user=unit, exposures=exposures)


def served(number: int) -> RetrievalServed:
    hits = tuple(Hit(document_id=f"d{rank}", rank=rank, score=1 / rank) for rank in (1, 2, 3))
    return RetrievalServed(
        query_id=f"q{number:03}", retrieval_id=f"r{number}", pipeline_version="1.0.0", hits=hits
    )


def click(number: int, document: str) -> FeedbackGiven:
    target = Target(kind="document", document_id=document)
    return FeedbackGiven(query_id=f"q{number:03}", kind="click", target=target)


def thumb(number: int, value: float) -> FeedbackGiven:
    return FeedbackGiven(query_id=f"q{number:03}", kind="thumb", value=value)


async def all_stored() -> dt.datetime | None:
    """A worker that is not behind."""
    return at(1_000_000)


async def test_a_query_waits_until_its_feedback_is_stored(client: Client) -> None:
    """A worker that is behind stores a query before the clicks that were received within seconds of it."""
    tenant = "behind"
    stored: list[dt.datetime | None] = [None]

    async def stored_until() -> dt.datetime | None:
        return stored[0]

    rows: list[tuple[Struct, float]] = [(question(1), 0), (served(1), 0)]
    await asyncio.to_thread(store, client, tenant, rows)
    feed = ClickHouseQueryFeed(client, SETTLE_S, stored_until)
    for moment in (None, at(3)):
        stored[0] = moment
        assert await feed.after(tenant, None, at(1000), 10) == []
        assert await feed.count_since(tenant, at(-1), at(1000)) == 0
    await asyncio.to_thread(store, client, tenant, [*rows, (click(1, "d1"), 5)])
    stored[0] = at(120)
    (seen,) = await feed.after(tenant, None, at(1000), 10)
    assert seen.clicked_rank == 1
    assert await feed.count_since(tenant, at(-1), at(1000)) == 1


async def test_queries_come_in_order_in_pages_and_settled_only(client: Client) -> None:
    tenant = "pages"
    rows: list[tuple[Struct, float]] = []
    for number in range(10):
        rows += [(question(number), number * 10.0), (served(number), number * 10.0)]
    await asyncio.to_thread(store, client, tenant, rows)
    feed = ClickHouseQueryFeed(client, SETTLE_S, all_stored)
    seen: list[str] = []
    cursor = None
    while page := await feed.after(tenant, cursor, at(75), 3):
        seen += [query.query_id for query in page]
        cursor = (page[-1].received_at, page[-1].query_id)
    assert seen == [f"q{number:03}" for number in range(8)]
    assert await feed.count_since(tenant, at(20), at(75)) == 5
    assert await feed.after("nobody", None, at(75), 3) == []


async def test_only_feedback_of_the_first_seconds_counts(client: Client) -> None:
    tenant = "settled"
    rows: list[tuple[Struct, float]] = [
        (question(1), 0),
        (served(1), 0),
        (click(1, "d3"), 5),
        (click(1, "d1"), 40),
        (thumb(1, 1), 6),
        (thumb(1, -1), 50),
        (question(2), 1),
        (served(2), 1),
    ]
    await asyncio.to_thread(store, client, tenant, rows)
    clicked, quiet = await ClickHouseQueryFeed(client, SETTLE_S, all_stored).after(tenant, None, at(100), 10)
    assert (clicked.clicked_rank, clicked.thumbs_up, clicked.thumbs_down) == (3, 1, 0)
    assert clicked.scores == (1.0, 0.5, 1 / 3)
    assert (clicked.text, clicked.unit, clicked.pipeline_version) == ("text 1", "u", "1.0.0")
    assert (quiet.clicked_rank, quiet.thumbs_up) == (None, 0)
    assert clicked.received_at == at(0)


async def test_feedback_counts_by_when_it_came_whatever_time_it_says(client: Client) -> None:
    """Yesterday's clicks, sent today: nobody could see them when the query was first looked at."""
    tenant = "late"
    rows: list[tuple[Struct, float]] = [
        (question(1), 0), (served(1), 0), (click(1, "d1"), 3600), (question(2), 1), (served(2), 1)
    ]  # fmt: skip
    await asyncio.to_thread(store, client, tenant, rows, clicked_at=at(5))
    late, other = await ClickHouseQueryFeed(client, SETTLE_S, all_stored).after(tenant, None, at(9000), 10)
    assert (late.query_id, late.clicked_rank) == ("q001", None)
    assert (other.query_id, other.clicked_rank) == ("q002", None)


async def test_units_are_summed_and_those_in_two_arms_are_left_out(client: Client) -> None:
    tenant = "units"

    def exposed(arm: str) -> tuple[Exposure, ...]:
        return (Exposure("exp", arm),)

    rows: list[tuple[Struct, float]] = [
        (question(1, unit="a", exposures=exposed("champion")), 0),
        (served(1), 0),
        (click(1, "d2"), 1),
        (question(2, unit="a", exposures=exposed("champion")), 10),
        (served(2), 10),
        (question(3, unit="b", exposures=exposed("challenger")), 11),
        (served(3), 11),
        (click(3, "d1"), 12),
        (question(4, unit="c", exposures=exposed("champion")), 13),
        (question(5, unit="c", exposures=exposed("challenger")), 14),
        (question(6, unit="d"), 15),
    ]
    await asyncio.to_thread(store, client, tenant, rows)
    offsets: Offsets = {"interactions": {"0": 11}}

    async def committed() -> Offsets:
        return offsets

    found = await ClickHouseUnitMeasures(client, committed)(tenant, "exp", ("clicked", "reciprocal_rank"))
    assert found.exposed == {"champion": 1, "challenger": 1}
    assert (found.excluded_units, found.offsets) == (1, offsets)
    by_unit = {row.unit: (row.arm, row.queries, row.total) for row in found.measures["clicked"]}
    assert by_unit == {"a": ("champion", 2, 1.0), "b": ("challenger", 1, 1.0)}
    ranks = {row.unit: row.total for row in found.measures["reciprocal_rank"]}
    assert ranks == {"a": 0.5, "b": 1.0}
