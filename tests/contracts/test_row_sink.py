"""`RowSink` and `RecordLookup`: one suite over the memory adapter and over ClickHouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import migrate
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.settings import ClickHouseSettings
from schemas.codec import decode_payload, encode_event
from schemas.envelope import Event
from schemas.errors import Fatal, Reason, Rejectable, Retryable
from schemas.lifecycle import TenantConfigured
from schemas.rejections import EventRejected
from streams.batch import BatchProcessor
from streams.columns import contribution_columns, episode_columns, event_columns, lifecycle_columns
from streams.fold import fold_episode
from streams.memory import MemoryLog, MemoryStore
from streams.ports import TABLES, RecordLookup, RowSink, Table
from streams.records import Arrival, read_record
from streams.settings import StreamSettings
from tests.contents import Content, held_in_memory, held_on_clickhouse
from tests.live_services import free_ports, running_engine
from tests.small_log import asked, clicked, conversation, messages_of, removed, retracted, sealed, stored

pytestmark = pytest.mark.service

DATABASES = Databases("contract_store", "contract_views")
#: An id that breaks every careless way of putting it into a statement.
NASTY = 'it\'s \\ a\n"query" %(id)s {x} ü 😀'


class Store(Protocol):
    """An adapter pair under test, with a look at its rows."""

    @property
    def sink(self) -> RowSink: ...

    @property
    def lookup(self) -> RecordLookup: ...

    def rows(self, table: Table) -> list[Content]: ...


class InMemory:
    def __init__(self) -> None:
        self.sink = self.lookup = MemoryStore()

    def rows(self, table: Table) -> list[Content]:
        return held_in_memory(self.sink, table)


class OnClickHouse:
    def __init__(self, client: Client) -> None:
        self.client = client
        self.sink = ClickHouseRowSink(client, DATABASES)
        self.lookup = ClickHouseRecordLookup(client, DATABASES)

    def rows(self, table: Table) -> list[Content]:
        return held_on_clickhouse(self.client, DATABASES, table)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture(params=["memory", "clickhouse"])
def store(request: pytest.FixtureRequest) -> Iterator[Store]:
    if request.param == "memory":
        yield InMemory()
        return
    client = open_client(request.getfixturevalue("engine"))
    migrate(client, DATABASES)
    for table in TABLES:
        client.command(f"TRUNCATE TABLE {DATABASES.store}.{table}")
    yield OnClickHouse(client)
    client.close()


def arrivals(events: list[Event]) -> list[Arrival]:
    return [Arrival(e, encode_event(e), "interactions", 3, n) for n, e in enumerate(events)]


def episode_of(events: list[Event]) -> Any:
    return fold_episode([read_record(event) for event in events])


async def put(store: Store, table: Table, columns: dict[str, Any]) -> None:
    await store.sink.insert(store.sink.prepare(table, columns))


async def test_an_insert_that_returned_is_seen(store: Store) -> None:
    events = conversation("q1")
    await put(store, "events", event_columns(arrivals(events)))
    found = await store.lookup.records_of([("acme", "q1"), ("acme", "q2"), ("other", "q1")])
    assert found.keys() == {("acme", "q1")}
    assert sorted(found["acme", "q1"]) == sorted(encode_event(event) for event in events)


async def test_any_text_is_a_query_id(store: Store) -> None:
    events = [asked(NASTY), asked("plain"), asked(NASTY, tenant="other")]
    await put(store, "events", event_columns(arrivals(events)))
    found = await store.lookup.records_of([("acme", NASTY), ("acme", "it's"), ("other", NASTY)])
    assert found == {
        ("acme", NASTY): [encode_event(events[0])],
        ("other", NASTY): [encode_event(events[2])],
    }


async def test_a_look_up_takes_more_ids_than_one_statement_holds(store: Store) -> None:
    events = [asked(f"q{n:05}") for n in range(0, 6000, 3)]
    await put(store, "events", event_columns(arrivals(events)))
    found = await store.lookup.records_of([("acme", f"q{n:05}") for n in range(6000)])
    assert len(found) == 2000


async def test_an_insert_again_changes_nothing(store: Store) -> None:
    events = conversation("q1")
    for _ in range(3):
        await put(store, "events", event_columns(arrivals(events)))
        await put(store, "contributions", contribution_columns([episode_of(events)]))
        await put(store, "episodes", episode_columns([episode_of(events)]))
    assert len(store.rows("events")) == 3
    assert len(store.rows("contributions")) == 1
    assert len(store.rows("episodes")) == 1


async def test_a_row_of_fewer_records_never_replaces_one_of_more(store: Store) -> None:
    events = conversation("q1")
    for some in (events, events[:1], events[:2]):
        await put(store, "contributions", contribution_columns([episode_of(some)]))
        await put(store, "episodes", episode_columns([episode_of(some)]))
    only = InMemory()
    await put(only, "episodes", episode_columns([episode_of(events)]))
    assert store.rows("episodes") == only.rows("episodes")


async def test_the_lifecycle_is_read_back_in_order(store: Store) -> None:
    events = [sealed(TenantConfigured(mode="auto"), f"c{n}", source="person") for n in range(5)]
    rows = [Arrival(e, encode_event(e), "lifecycle", 1, 10 + n) for n, e in enumerate(events)]
    for part in (rows[3:], rows[:3]):
        await put(store, "lifecycle", lifecycle_columns(part, [""] * len(part)))
    assert await store.lookup.lifecycle_before("acme", 1, 14) == [a.value for a in rows[:4]]
    assert await store.lookup.lifecycle_before("acme", 0, 14) == []
    assert await store.lookup.lifecycle_before("other", 1, 14) == []


async def test_a_value_without_room_is_refused_before_anything_is_sent(store: Store) -> None:
    columns = episode_columns([episode_of(conversation("q1"))])
    columns["hit_ranks"] = [[1 << 40]]
    with pytest.raises(Rejectable) as refused:
        store.sink.prepare("episodes", columns)
    assert refused.value.reason is Reason.STORAGE_REFUSED


async def test_columns_of_different_lengths_are_refused(store: Store) -> None:
    columns = event_columns(arrivals(conversation("q1")))
    columns["door"] = ["http"]
    with pytest.raises(Rejectable):
        store.sink.prepare("events", columns)


async def test_no_rows_are_no_insert(store: Store) -> None:
    await put(store, "contributions", contribution_columns([]))
    assert store.rows("contributions") == []


@pytest.mark.parametrize("cut", [1, 7, 1000])
async def test_a_log_gives_the_same_rows_in_any_cut_on_any_adapter(store: Store, cut: int) -> None:
    events = [
        *conversation("q1"),
        *conversation("q2", at_s=10, user="bob"),
        retracted("q2", "q2-click", at_s=20),
        clicked("q3", at_s=21),
        *conversation("q1", tenant="other"),
        clicked("q1", "d3", at_s=30),
        *conversation("q1"),
        asked("q2", user="eve", at_s=5),
        asked("q3", at_s=40),
    ]
    await process(store, events, cut)
    expected = InMemory()
    await process(expected, events, 3)
    tables: tuple[Table, ...] = ("events", "episodes", "contributions")
    for table in tables:
        assert store.rows(table) == expected.rows(table), table
    assert len(store.rows("episodes")) == 4
    assert len(store.rows("events")) == 14


async def process(store: Store, events: list[Event], cut: int) -> None:
    processor = BatchProcessor(store.sink, store.lookup, MemoryLog(), StreamSettings())
    messages = messages_of(events)
    for start in range(0, len(messages), cut):
        await processor.process("interactions", messages[start : start + cut])
        processor.forget()


async def test_documents_are_stored_whole(store: Store) -> None:
    processor = BatchProcessor(store.sink, store.lookup, MemoryLog(), StreamSettings())
    events = [stored("d1", "one", "e1"), removed("d1", "e2", at_s=1), stored("d2", NASTY, "e3")]
    for _ in range(2):
        await processor.process("documents", messages_of(events))
    assert len(store.rows("documents")) == 3


def test_storage_has_every_column_of_the_list_with_its_type(engine: ClickHouseSettings) -> None:
    client = open_client(engine)
    migrate(client, DATABASES)
    for table, columns in TABLES.items():
        rows = client.query(
            "SELECT name, type FROM system.columns "
            "WHERE database = {database:String} AND table = {table:String}",
            parameters={"database": DATABASES.store, "table": table},
        ).result_rows
        found = dict(rows)
        assert {name: found.get(name) for name in columns} == columns, table
    client.close()


def test_nobody_there_may_be_retried_and_a_wrong_password_may_not(engine: ClickHouseSettings) -> None:
    (port,) = free_ports(1)
    with pytest.raises(Retryable):
        open_client(ClickHouseSettings(url=f"http://127.0.0.1:{port}"))
    with pytest.raises(Fatal):
        open_client(ClickHouseSettings(url=engine.url, user=engine.user, password="wrong"))


async def test_rows_for_a_table_that_is_not_there_stop_the_process(engine: ClickHouseSettings) -> None:
    client = open_client(engine)
    sink = ClickHouseRowSink(client, Databases("nowhere", "nowhere_views"))
    block = sink.prepare("events", event_columns(arrivals(conversation("q1"))))
    with pytest.raises(Fatal):
        await sink.insert(block)
    client.close()


async def test_a_block_that_the_engine_does_not_take_is_cut_and_a_row_that_it_does_not_take_is_refused(
    tmp_path: Path,
) -> None:
    with running_engine(tmp_path, max_body_bytes=1 << 20) as settings:
        client = open_client(settings)
        migrate(client, DATABASES)
        log = MemoryLog()
        processor = BatchProcessor(
            ClickHouseRowSink(client, DATABASES),
            ClickHouseRecordLookup(client, DATABASES),
            log,
            StreamSettings(retry_for_s=1.0),
        )
        documents = [stored(f"d{n}", "x" * 100_000, f"e{n}") for n in range(30)]
        huge = stored("huge", "x" * (1 << 20), "huge")
        report = await processor.process("documents", messages_of([*documents[:9], huge, *documents[9:]]))
        assert report.rejected == {Reason.STORAGE_REFUSED.value: 1}
        (entry,) = [decode_payload(event) for event in log.rejections]
        assert isinstance(entry, EventRejected)
        assert entry.event_id == "huge"
        found = client.query(f"SELECT uniqExact(document_id) FROM {DATABASES.views}.documents").result_rows
        assert [tuple(row) for row in found] == [(30,)]
        client.close()
