"""Feedback that waits, on real Kafka and the real engine: a worker killed on either side of the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from msgspec.structs import replace

from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import migrate
from infra.clickhouse.sink import ClickHouseRowSink
from infra.clickhouse.waiting import ClickHouseWaitingLookup, count_waiting
from infra.kafka.log import KafkaLogReader, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.interactions import AnswerGiven, QueryAsked, Target
from schemas.topics import INTERACTIONS
from schemas.waiting import FeedbackReferred, QueryNamed
from streams.columns import waiting_columns
from streams.memory import MemoryStore
from streams.ports import ReferenceKey, RowSink, WaitingLookup
from streams.records import Arrival, read_record
from streams.settings import StreamSettings
from tests.live_services import running_engine, running_kafka, wait_until
from tests.small_log import START, sealed
from tests.worker_process import WorkerOptions, running_worker

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

#: A reference that breaks every careless way of putting it into a statement.
NASTY = 'answer:it\'s \\ a\n"reference" %(id)s {x} ü'
STORED = Databases("waiting_store", "waiting_views")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    with running_kafka(tmp_path_factory.mktemp("kafka")) as settings:
        asyncio.run(ensure_topics(settings))
        yield settings


def referred(reference: str, event_id: str, *, at_s: float = 0.0, tenant: str = "acme") -> Event:
    payload = FeedbackReferred(
        reference=reference, kind="thumb", value=1, target=Target(kind="answer", answer_id="a")
    )
    return sealed(payload, event_id, at_s=at_s, tenant=tenant)


def named(reference: str, query_id: str, *, at_s: float = 0.0, tenant: str = "acme") -> Event:
    payload = QueryNamed(reference=reference, query_id=query_id)
    return sealed(payload, f"n-{query_id}", at_s=at_s, tenant=tenant)


async def put(sink: RowSink, events: list[Event], first_offset: int = 0) -> None:
    rows = [
        (Arrival(event, encode_event(event), "waiting", 2, offset), read_record(event).payload)
        for offset, event in enumerate(events, first_offset)
    ]
    await sink.insert(sink.prepare("waiting", waiting_columns(rows)))  # type: ignore[arg-type]


@pytest.fixture(params=["memory", "clickhouse"])
def waiting(request: pytest.FixtureRequest) -> Iterator[tuple[RowSink, WaitingLookup, Client | None]]:
    """An adapter pair, and the client of the one that has any."""
    if request.param == "memory":
        memory = MemoryStore()
        yield memory, memory, None
        return
    client = open_client(request.getfixturevalue("engine"))
    migrate(client, STORED)
    client.command(f"TRUNCATE TABLE {STORED.store}.waiting")
    yield ClickHouseRowSink(client, STORED), ClickHouseWaitingLookup(client, STORED), client
    client.close()


async def test_what_is_stored_is_found_by_reference_and_the_first_name_counts_after_merges(
    waiting: tuple[RowSink, WaitingLookup, Client | None],
) -> None:
    sink, lookup, client = waiting
    first, second = named(NASTY, "q1", at_s=9), named(NASTY, "q2", at_s=1)
    lonely, foreign = referred("span:b7", "f2", at_s=3), referred(NASTY, "f3", tenant="other")
    await put(sink, [referred(NASTY, "f1"), first, second, lonely, foreign])
    await put(sink, [first], first_offset=5)  # the same record again, further on in the log
    key: ReferenceKey = ("acme", NASTY)
    wanted = [key, ("acme", "span:b7"), ("other", NASTY), ("acme", "answer:it's")]
    for _ in range(2):
        assert await lookup.names_of(wanted) == {key: encode_event(first)}
        assert await lookup.referred_to(wanted) == {
            key: [encode_event(referred(NASTY, "f1"))],
            ("acme", "span:b7"): [encode_event(lonely)],
            ("other", NASTY): [encode_event(foreign)],
        }
        assert await lookup.waiting_references(10) == {("acme", "span:b7"), ("other", NASTY)}
        assert len(await lookup.waiting_references(1)) == 1
        if client is not None:
            assert count_waiting(client, STORED) == (2, START.timestamp())
            client.command(f"OPTIMIZE TABLE {STORED.store}.waiting FINAL")


async def on_interactions(bootstrap: str) -> list[bytes]:
    reader = KafkaLogReader(bootstrap)
    found: list[bytes] = []
    async for messages in reader.read(INTERACTIONS, await reader.end_offsets(INTERACTIONS)):
        found += [message.value for message in messages]
    return found


def paused(options: WorkerOptions) -> bool:
    return Path(options.directory, "paused").exists()


async def test_feedback_reaches_its_query_once_whatever_kills_the_worker(
    kafka: KafkaSettings, engine: ClickHouseSettings, tmp_path: Path
) -> None:
    options = WorkerOptions(
        bootstrap=kafka.bootstrap,
        clickhouse=engine,
        databases=Databases("killed_store", "killed_views"),
        streams=StreamSettings(group="waiting", batch_events=200, commit_interval_s=0.2),
        directory=str(tmp_path),
    )
    client = open_client(engine)
    migrate(client, options.databases)
    async with KafkaEventLog(kafka.bootstrap) as log:
        await log.append([referred("answer:a", "early", at_s=1)])
        # killed once the feedback is stored, then once its name was passed on and not yet stored
        for fault in ("pause_after", "pause_before"):
            with running_worker(replace(options, **{fault: "waiting"})):
                await wait_until("the worker's pause", lambda: paused(options))
            if fault == "pause_after":
                await log.append(
                    [
                        sealed(QueryAsked(query_id="q", text="how"), "asked"),
                        sealed(AnswerGiven(query_id="q", answer_id="a", text="so"), "answered", at_s=2),
                        named("answer:a", "q", at_s=2),
                        named("answer:a", "another", at_s=3),
                    ]
                )
        await log.append([referred("answer:a", "late", at_s=4), referred("answer:nobody", "lonely", at_s=5)])
    with running_worker(options):
        sql = f"SELECT thumbs_up FROM {options.databases.views}.episodes WHERE query_id = 'q'"
        await wait_until(
            "both thumbs in the episode",
            lambda: [tuple(row) for row in client.query(sql).result_rows] == [(2,)],
            limit_s=60.0,
        )
        assert count_waiting(client, options.databases) == (1, START.timestamp() + 5)
    client.close()
    given = [value for value in await on_interactions(kafka.bootstrap) if b"feedback.given" in value]
    assert len(given) > len(set(given)), "a kill between passing on and storing passes on again"
    assert len(set(given)) == 2
    assert all(b'"query_id":"q"' in value for value in given)
