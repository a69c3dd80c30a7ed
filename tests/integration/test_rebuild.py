"""Rebuild and as-of folds on real Kafka and the real engine: the log alone gives the same rows again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

import streams.rebuild
from infra.clickhouse.beside import ClickHouseStoreBeside, beside
from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import claim_fold_version, migrate, written_fold_version
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.kafka.log import KafkaLogReader, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.kafka.sink import KafkaEventSink
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.envelope import Event
from schemas.interactions import Hit, RetrievalServed
from schemas.topics import DOCUMENTS, INTERACTIONS, LIFECYCLE, REJECTED
from streams.asof import fold_as_of, fold_documents_as_of
from streams.batch import BatchProcessor
from streams.columns import encode_episode, hash_row
from streams.fold import FOLD_VERSION
from streams.rebuild import RebuildReport, rebuild
from streams.settings import StreamSettings
from tests.lifecycle_events import whole_story
from tests.live_services import running_engine, running_kafka
from tests.small_log import (
    asked,
    clicked,
    conversation,
    received_again,
    removed,
    retracted,
    sealed,
    stored,
)

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

LIVING = Databases("rebuilt_store", "rebuilt")
OTHER_FOLD = FOLD_VERSION + 1000


def story() -> list[Event]:
    """What a rebuild must not get wrong: repeats, conflicts, late and retracted events, poison."""
    talk = conversation("q1", arm="new")
    hits = (Hit("d1", 1 << 40),)  # no column has room for this rank
    return [
        *talk,
        received_again(talk[0], at_s=40),
        clicked("q1", "d3", at_s=50),
        *conversation("q2", user="bob", at_s=10),
        retracted("q2", "q2-click", at_s=5),
        asked("q2", user="eve", at_s=3),
        clicked("waits", at_s=60),
        *conversation("q1", tenant="other"),
        sealed(RetrievalServed(query_id="q2", retrieval_id="r", hits=hits), "unstorable", at_s=70),
        stored("d1", "one", "e1"),
        stored("d1", "two", "e2", at_s=1),
        removed("d2", "e3"),
        *whole_story(),
        whole_story()[0],
    ]


class Stack:
    """A log with a story in it, and a store that a processor wrote from it as the worker does."""

    def __init__(self, bootstrap: str, client: Client) -> None:
        self.bootstrap = bootstrap
        self.client = client
        self.reader = KafkaLogReader(bootstrap)
        self.settings = StreamSettings()
        self.store = ClickHouseStoreBeside(client, LIVING)

    async def offsets(self) -> dict[str, dict[int, int]]:
        """What a worker that was stopped in order has committed."""
        topics = (REJECTED, DOCUMENTS, LIFECYCLE, INTERACTIONS)
        return {topic: await self.reader.end_offsets(topic) for topic in topics}

    async def write(self) -> None:
        """Fold the whole log into the living store, batch by batch."""
        migrate(self.client, LIVING)
        claim_fold_version(self.client, FOLD_VERSION, LIVING)
        async with KafkaEventLog(self.bootstrap) as log:
            processor = BatchProcessor(
                ClickHouseRowSink(self.client, LIVING),
                ClickHouseRecordLookup(self.client, LIVING),
                KafkaEventSink(log),
                self.settings,
            )
            for topic in (DOCUMENTS, LIFECYCLE, INTERACTIONS, REJECTED):
                async for messages in self.reader.read(topic, await self.reader.end_offsets(topic)):
                    for start in range(0, len(messages), 3):
                        await processor.process(topic, messages[start : start + 3])

    async def rebuild(self, *, accept_difference: bool = False) -> RebuildReport:
        steps: list[str] = []
        report = await rebuild(
            self.reader,
            self.store,
            await self.offsets(),
            self.settings,
            progress=lambda step, _: steps.append(step),
            accept_difference=accept_difference,
        )
        assert {"read interactions", "fold", "compare"} <= set(steps)
        assert ("swap" in steps) == report.swapped
        databases = {row[0] for row in self.client.query("SHOW DATABASES").result_rows}
        assert not databases & {beside(LIVING).store, beside(LIVING).views}
        return report

    def clicks(self) -> list[tuple[str, str, int]]:
        rows = self.client.query(
            f"SELECT tenant, query_id, clicks FROM {LIVING.views}.episodes ORDER BY tenant, query_id"
        ).result_rows
        return [(row[0], row[1], row[2]) for row in rows]


CLICKS = [("acme", "q1", 1), ("acme", "q2", 0), ("acme", "waits", 1), ("other", "q1", 1)]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    with running_kafka(tmp_path_factory.mktemp("kafka")) as settings:
        asyncio.run(_fill(settings))
        yield settings


async def _fill(settings: KafkaSettings) -> None:
    await ensure_topics(settings)
    async with KafkaEventLog(settings.bootstrap) as log:
        assert all(result.confirmed for result in await log.append(story()))
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(INTERACTIONS, b"{garbage", key=b"acme/q1")
    finally:
        await producer.stop()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture
async def stack(log: KafkaSettings, engine: ClickHouseSettings) -> AsyncIterator[Stack]:
    client = open_client(engine)
    for database in (LIVING.views, LIVING.store):
        client.command(f"DROP DATABASE IF EXISTS {database} SYNC")
    stack = Stack(log.bootstrap, client)
    await stack.write()
    yield stack
    client.close()


async def test_a_rebuild_equals_what_the_worker_wrote_and_appends_nothing(stack: Stack) -> None:
    before = await stack.offsets()
    report = await stack.rebuild()
    assert report.different == ()
    assert report.not_compared == ()
    assert report.living == report.beside
    assert report.queries == 4
    assert {table: digest.rows for table, digest in report.beside.items()} == {
        "events": 14,
        "episodes": 4,
        "pairs": report.living["pairs"].rows,
        "contributions": 3,
        "documents": 3,
        "lifecycle": len(whole_story()) + 1,
        "rejected": 2,
    }
    assert report.living["pairs"].rows > 0
    assert await stack.offsets() == before
    assert stack.clicks() == CLICKS
    # the worker goes on from where it was, in the tables that were swapped in
    await stack.write()
    assert stack.clicks() == CLICKS


async def test_a_log_that_is_larger_than_an_insert_is_rebuilt_in_several(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams.rebuild, "INSERT_BYTES", 1_500)  # two or three records
    report = await stack.rebuild()
    assert report.different == ()
    assert report.queries == 4


async def test_old_tables_are_dropped_however_large_they_are(stack: Stack) -> None:
    stack.client.set_client_setting("max_table_size_to_drop", 1)
    with pytest.raises(ClickHouseError, match="TABLE_SIZE_EXCEEDS_MAX_DROP_SIZE_LIMIT"):
        stack.client.command(f"DROP TABLE {LIVING.store}.events SYNC")
    assert (await stack.rebuild()).swapped
    assert stack.clicks() == CLICKS


async def test_a_damaged_store_is_shown_and_replaced_only_if_asked(stack: Stack) -> None:
    stack.client.command(f"TRUNCATE TABLE {LIVING.store}.episodes")
    report = await stack.rebuild()
    assert report.different == ("episodes", "pairs")
    assert not report.swapped
    assert stack.clicks() == []
    report = await stack.rebuild(accept_difference=True)
    assert report.swapped
    assert stack.clicks() == CLICKS


async def test_rows_of_another_fold_are_replaced_without_comparing_them(stack: Stack) -> None:
    stack.client.command(
        f"INSERT INTO {LIVING.store}.schema_state (kind, number) VALUES ('fold', {OTHER_FOLD})"
    )
    stack.client.command(f"TRUNCATE TABLE {LIVING.store}.contributions")
    report = await stack.rebuild()
    assert report.swapped
    assert report.not_compared == ("contributions", "episodes", "pairs")
    assert written_fold_version(stack.client, LIVING) == FOLD_VERSION


async def test_an_interrupted_rebuild_leaves_the_living_store_and_can_be_repeated(stack: Stack) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(step: str, _: int) -> None:
        if step == "fold":
            raise Interrupted

    offsets = await stack.offsets()
    with pytest.raises(Interrupted):
        await rebuild(stack.reader, stack.store, offsets, stack.settings, progress=interrupt)
    assert stack.clicks() == CLICKS
    assert (await stack.rebuild()).different == ()


async def test_episodes_as_of_are_the_rows_of_the_store(stack: Stack) -> None:
    offsets = {
        topic: {str(p): end for p, end in ends.items()} for topic, ends in (await stack.offsets()).items()
    }
    episodes = [episode async for episode in fold_as_of(stack.reader, "acme", offsets)]
    assert [episode.query_id for episode in episodes] == ["q1", "q2", "waits"]
    rows = stack.client.query(
        f"SELECT row_hash FROM {LIVING.store}.episodes FINAL WHERE tenant = 'acme' ORDER BY query_id"
    ).result_rows
    found = [hash_row(encode_episode(episode)) for episode in episodes]
    # q2 differs: the store refused one of its records, which the fold itself takes
    assert [row[0] == hash_ for row, hash_ in zip(rows, found, strict=True)] == [True, False, True]
    documents = await fold_documents_as_of(stack.reader, "acme", offsets)
    assert [(d.document_id, d.text) for d in documents] == [("d1", "two")]
    nothing = [episode async for episode in fold_as_of(stack.reader, "acme", {})]
    assert nothing == []
