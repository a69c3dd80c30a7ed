"""Rebuild and as-of folds on real Kafka and the real engine: the log alone gives the same rows again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

import streams.rebuild.build
from infra.clickhouse.beside import ClickHouseStoreBeside, beside
from infra.clickhouse.compare import find_differences
from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import claim_fold_version, migrate, written_fold_version
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.kafka.log import KafkaLogReader, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.kafka.sink import KafkaEventSink
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.envelope import Event
from schemas.errors import Fatal
from schemas.interactions import Hit, RetrievalServed
from schemas.topics import INTERACTIONS, REJECTED, TOPICS
from streams.asof import fold_as_of, fold_documents_as_of
from streams.batch import BatchProcessor
from streams.columns import episode_columns
from streams.fold import FOLD_VERSION
from streams.memory import MemoryStore
from streams.ports import Difference
from streams.rebuild import RebuildReport, keep_as_of, rebuild
from streams.settings import StreamSettings
from tests.contents import held_in_memory, held_on_clickhouse
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
        return {topic.name: await self.reader.end_offsets(topic.name) for topic in TOPICS}

    async def committed(self) -> dict[str, dict[int, int]]:
        """`PausableWorker`: one that has done everything and is stopped."""
        return await self.offsets()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[dict[str, dict[int, int]]]:
        """`PausableWorker`."""
        yield await self.offsets()

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
            for topic in (*(t.name for t in TOPICS if t.name != REJECTED), REJECTED):
                async for messages in self.reader.read(topic, await self.reader.end_offsets(topic)):
                    for start in range(0, len(messages), 3):
                        await processor.process(topic, messages[start : start + 3])

    async def rebuild(self, *, accept_difference: bool = False) -> RebuildReport:
        steps: list[str] = []
        report = await rebuild(
            self.reader,
            self.store,
            self,
            self.settings,
            progress=lambda step, *_: steps.append(step),
            accept_difference=accept_difference,
        )
        assert report.resumed or {"read interactions", "compare"} <= set(steps)
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
        "waiting": 0,
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
    monkeypatch.setattr(streams.rebuild.build, "INSERT_BYTES", 1_500)  # two or three records
    report = await stack.rebuild()
    assert report.differences == ()
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


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("moment", [2, 9])
async def test_a_rebuild_that_is_killed_is_gone_on_with(
    stack: Stack, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind the nth note of how far it is: what is beside by then is not read or folded again."""
    monkeypatch.setattr(streams.rebuild.build, "INSERT_BYTES", 1_500)  # a note after two or three records
    notes = 0
    note = stack.store.note

    async def note_and_die(state: bytes) -> None:
        nonlocal notes
        await note(state)
        notes += 1
        if notes == moment:
            raise Interrupted

    monkeypatch.setattr(stack.store, "note", note_and_die)
    with pytest.raises(Interrupted):
        await rebuild(stack.reader, stack.store, stack, stack.settings)
    assert stack.clicks() == CLICKS
    monkeypatch.undo()
    stack.store = ClickHouseStoreBeside(stack.client, LIVING)
    noted = await stack.store.noted()
    assert noted is not None
    report = await stack.rebuild()
    assert report.resumed
    assert report.different == ()
    assert report.living == report.beside
    assert sum(report.records.values()) == sum(
        sum(ends.values()) for ends in (await stack.offsets()).values()
    )
    assert stack.clicks() == CLICKS


async def test_a_swap_that_is_killed_is_finished_and_no_worker_writes_before(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = stack.client.command
    exchanges = 0

    def command_until_killed(statement: str, *args: object, **more: object) -> object:
        nonlocal exchanges
        exchanges += statement.startswith("EXCHANGE")
        if exchanges == 3:
            raise Interrupted
        return command(statement, *args, **more)

    monkeypatch.setattr(stack.client, "command", command_until_killed)
    with pytest.raises(Fatal, match="putting"):
        await stack.rebuild()
    monkeypatch.undo()
    assert stack.clicks() == CLICKS
    with pytest.raises(Fatal, match="`ratchet rebuild` finishes that"):
        claim_fold_version(stack.client, FOLD_VERSION, LIVING)
    stack.store = ClickHouseStoreBeside(stack.client, LIVING)
    report = await stack.rebuild()
    assert report.swapped
    assert report.resumed
    claim_fold_version(stack.client, FOLD_VERSION, LIVING)
    assert (await stack.rebuild()).different == ()
    assert stack.clicks() == CLICKS


async def test_what_comes_meanwhile_is_caught_up_with_and_the_last_of_it_while_the_worker_rests(
    stack: Stack,
) -> None:
    """The worker has come to three events before the end when the rebuild begins, and goes on."""
    ends = await stack.offsets()
    before = {topic: dict(offsets) for topic, offsets in ends.items()}
    for partition, end in ends[INTERACTIONS].items():
        before[INTERACTIONS][partition] = max(0, end - 3)

    class Working(Stack):
        async def committed(self) -> dict[str, dict[int, int]]:
            return before

    worker = Working(stack.bootstrap, stack.client)
    steps: list[tuple[str, int, int | None]] = []
    report = await rebuild(
        stack.reader, stack.store, worker, stack.settings, progress=lambda *step: steps.append(step)
    )
    late = sum(ends[INTERACTIONS].values()) - sum(before[INTERACTIONS].values())
    assert late > 3
    assert ("catch up", late, late) in steps
    assert report.different == ()
    assert report.offsets[INTERACTIONS] == {p: end for p, end in ends[INTERACTIONS].items() if end}
    assert stack.clicks() == CLICKS


async def test_one_damaged_value_is_named(stack: Stack) -> None:
    stack.client.command(
        f"ALTER TABLE {LIVING.store}.episodes UPDATE text = 'damaged' WHERE tenant = 'acme' "
        "AND query_id = 'q2' SETTINGS mutations_sync = 1"
    )
    stack.client.command(
        f"ALTER TABLE {LIVING.store}.events DELETE WHERE event_id = 'waits-click' SETTINGS mutations_sync = 1"
    )
    report = await stack.rebuild()
    assert report.different == ("episodes", "events")
    episode, event = report.differences
    assert episode == Difference("episodes", {"tenant": "acme", "query_id": "q2"}, "", ("text",))
    assert (event.table, event.only_in) == ("events", "second")
    assert {"tenant": "acme", "query_id": "waits", "event_id": "waits-click"}.items() <= event.key.items()


async def test_a_store_is_kept_as_of_offsets_and_compared(stack: Stack) -> None:
    ends = await stack.offsets()
    early = {topic: dict(offsets) for topic, offsets in ends.items()}
    early[INTERACTIONS] = {p: max(0, end - 1) for p, end in ends[INTERACTIONS].items()}
    aside = ClickHouseStoreBeside(stack.client, LIVING, "early")
    kept = await keep_as_of(stack.reader, aside, early, stack.settings)
    assert kept.offsets == early
    assert kept.beside["events"].rows < 14
    missing = find_differences(stack.client, LIVING, beside(LIVING, "early"), "events", 100)
    assert {one.only_in for one in missing} == {"first"}
    assert len(missing) == 14 - kept.beside["events"].rows
    # the same offsets give the same store; others are refused while it is there
    again = await keep_as_of(stack.reader, aside, early, stack.settings)
    assert (again.resumed, again.beside) == (True, kept.beside)
    with pytest.raises(Fatal, match="drop it first"):
        await keep_as_of(stack.reader, aside, ends, stack.settings)
    whole = await keep_as_of(stack.reader, aside, ends, stack.settings, afresh=True)
    living, fresh = await aside.digests()
    assert living == fresh == whole.beside
    await aside.drop()
    # a living rebuild beside it was not disturbed
    assert (await stack.rebuild()).different == ()


async def test_episodes_as_of_are_the_rows_of_the_store(stack: Stack) -> None:
    offsets = {
        topic: {str(p): end for p, end in ends.items()} for topic, ends in (await stack.offsets()).items()
    }
    episodes = [episode async for episode in fold_as_of(stack.reader, "acme", offsets)]
    assert [episode.query_id for episode in episodes] == ["q1", "q2", "waits"]
    q1, q2, waits = episodes
    folded = MemoryStore()
    await folded.insert(folded.prepare("episodes", episode_columns([q1, waits])))
    found = {row[1]: row for row in held_on_clickhouse(stack.client, LIVING, "episodes") if row[0] == b"acme"}
    assert [found[b"q1"], found[b"waits"]] == held_in_memory(folded, "episodes")
    # the store refused one of its records, which the fold itself takes
    assert found[b"q2"][2] == q2.record_count - 1
    documents = await fold_documents_as_of(stack.reader, "acme", offsets)
    assert [(d.document_id, d.text) for d in documents] == [("d1", "two")]
    nothing = [episode async for episode in fold_as_of(stack.reader, "acme", {})]
    assert nothing == []
