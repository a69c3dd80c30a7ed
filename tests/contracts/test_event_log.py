"""One suite for every `EventLog`, in memory and on a real broker; then what only Kafka can do."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from infra.kafka.log import ensure_topics
from infra.kafka.producer import KafkaEventLog, partition_hash
from infra.local.spec import ProcessSpec, StackSpec, TcpReady
from infra.local.stack import RunningStack, up
from infra.local.tcp_ports import allocate_ports
from infra.settings import KafkaSettings
from ingest.memory import MemoryEventLog
from ingest.ports import EventLog
from schemas.codec import decode_event, seal_event
from schemas.documents import DocumentStored
from schemas.envelope import Event
from schemas.errors import Fatal, Retryable
from schemas.interactions import FeedbackGiven, QueryAsked
from schemas.lifecycle import TenantConfigured
from schemas.rejections import EventRejected
from schemas.topics import TOPICS, Topic, record_key

NOW = dt.datetime(2026, 3, 2, 9, 30, 0, 123_000, tzinfo=dt.UTC)


class Broker:
    """A real broker of one node, with our topics."""

    def __init__(self, stack: RunningStack, bootstrap: str) -> None:
        self._stack = stack
        self.bootstrap = bootstrap

    def signal(self, number: signal.Signals) -> None:
        (process,) = self._stack.status().processes
        assert process.pid is not None
        os.kill(process.pid, number)

    async def records(self, tenant: str) -> list[tuple[str, int, bytes, bytes, int]]:
        """(topic, partition, key, value, timestamp in ms) of a tenant, each partition in order."""
        found = [record for topic in TOPICS for record in await self._read(topic)]
        return [record for record in found if decode_event(record[3]).tenant == tenant]

    async def _read(self, topic: Topic) -> list[tuple[str, int, bytes, bytes, int]]:
        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        try:
            partitions = [TopicPartition(topic.name, number) for number in range(topic.partitions)]
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            left = sum((await consumer.end_offsets(partitions)).values())
            found: list[tuple[str, int, bytes, bytes, int]] = []
            while len(found) < left:
                for tp, batch in (await consumer.getmany(timeout_ms=200)).items():
                    found += [(tp.topic, tp.partition, r.key, r.value, r.timestamp) for r in batch]
            return found
        finally:
            await consumer.stop()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    directory = tmp_path_factory.mktemp("broker")
    ports = allocate_ports(directory, ("kafka", "controller"))
    argv = [sys.executable, "-P", "-m", "infra.local.broker", "run", "--directory", str(directory / "kafka")]
    argv += ["--port", str(ports["kafka"]), "--controller-port", str(ports["controller"])]
    spec = ProcessSpec(name="kafka", argv=tuple(argv), ready=TcpReady(ports["kafka"]))
    with up(StackSpec(directory=str(directory), processes=(spec,)), tied=True) as stack:
        running = Broker(stack, f"127.0.0.1:{ports['kafka']}")
        with ThreadPoolExecutor(1) as thread:  # an async fixture may ask for this one: a loop runs already
            settings = KafkaSettings(bootstrap=running.bootstrap)
            thread.submit(lambda: asyncio.run(ensure_topics(settings))).result()
        yield running


class Subject(Protocol):
    """A log under test, and a way to read what is in it."""

    @property
    def log(self) -> EventLog: ...

    async def stored(self, tenant: str) -> list[tuple[str, bytes, Event]]: ...


class InMemory:
    def __init__(self) -> None:
        self.log = MemoryEventLog()

    async def stored(self, tenant: str) -> list[tuple[str, bytes, Event]]:
        records = [(topic, *record) for topic, records in self.log.records.items() for record in records]
        return [(topic, key, decode_event(value)) for topic, key, value in records]


class OnKafka:
    def __init__(self, log: KafkaEventLog, broker: Broker) -> None:
        self.log = log
        self._broker = broker

    async def stored(self, tenant: str) -> list[tuple[str, bytes, Event]]:
        return [
            (topic, key, decode_event(value))
            for topic, _, key, value, _ in await self._broker.records(tenant)
        ]


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.service)])
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    if request.param == "memory":
        yield InMemory()
    else:
        broker = request.getfixturevalue("broker")
        async with KafkaEventLog(broker.bootstrap) as log:
            yield OnKafka(log, broker)


@pytest.fixture
def tenant(request: pytest.FixtureRequest) -> str:
    """One of its own for each test, so that tests share a broker without meeting."""
    return f"t-{abs(hash(request.node.nodeid)) % 10**12}"


def query(tenant: str, number: int, text: str = "how") -> Event:
    payload = QueryAsked(query_id=f"q-{number}", text=text)
    return seal_event(payload, id=f"e-{number}", source="urn:app", tenant=tenant, recordedtime=NOW)


def by_id(stored: list[tuple[str, bytes, Event]]) -> dict[str, tuple[str, bytes, Event]]:
    return {event.id: (topic, key, event) for topic, key, event in stored}


async def test_every_type_goes_to_its_topic_under_its_key(subject: Subject, tenant: str) -> None:
    def sealed(payload: object, id_: str) -> Event:
        return seal_event(payload, id=id_, source="s", tenant=tenant, recordedtime=NOW)  # type: ignore[arg-type]

    events = [
        sealed(QueryAsked(query_id="q", text="x"), "1"),
        sealed(FeedbackGiven(query_id="q", kind="copy"), "2"),
        sealed(DocumentStored(document_id="d/1", text="x"), "3"),
        sealed(TenantConfigured(), "4"),
        sealed(EventRejected(entry_id="r", reason="unknown_type", message="m"), "5"),
    ]
    assert [result.confirmed for result in await subject.log.append(events)] == [True] * 5
    stored = by_id(await subject.stored(tenant))
    assert {id_: (topic, key) for id_, (topic, key, _) in stored.items()} == {
        "1": ("interactions", f"{tenant}/q".encode()),
        "2": ("interactions", f"{tenant}/q".encode()),
        "3": ("documents", f"{tenant}/d/1".encode()),
        "4": ("lifecycle", tenant.encode()),
        "5": ("rejected", f"{tenant}/r".encode()),
    }
    assert [stored[event.id][2] for event in events] == events


async def test_appending_nothing_confirms_nothing(subject: Subject) -> None:
    assert list(await subject.log.append([])) == []


async def test_events_of_one_key_stay_in_order(subject: Subject, tenant: str) -> None:
    events = [
        seal_event(QueryAsked(query_id="q", text="x"), id=str(n), source="s", tenant=tenant, recordedtime=NOW)
        for n in range(500)
    ]
    await subject.log.append(events[:250])
    await subject.log.append(events[250:])
    assert [event.id for _, _, event in await subject.stored(tenant)] == [event.id for event in events]


async def test_many_tasks_at_once_lose_nothing(subject: Subject, tenant: str) -> None:
    batches = [[query(tenant, 100 * b + n) for n in range(100)] for b in range(20)]
    results = await asyncio.gather(*(subject.log.append(batch) for batch in batches))
    assert all(result.confirmed for batch in results for result in batch)
    stored = [event.id for _, _, event in await subject.stored(tenant)]
    assert sorted(stored) == sorted(event.id for batch in batches for event in batch)


async def test_a_memory_log_that_confirms_nothing_says_so() -> None:
    log = MemoryEventLog()
    log.confirming = False
    (result,) = await log.append([query("t", 1)])
    assert not result.confirmed
    assert result.detail


@given(st.binary(max_size=80))
def test_the_fast_key_hash_is_kafkas(key: bytes) -> None:
    assert partition_hash(key) == murmur2(key) & 0x7FFFFFFF


@asynccontextmanager
async def paused(broker: Broker) -> AsyncIterator[None]:
    """The broker's process stopped in its tracks: connections stand, nothing is answered."""
    broker.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        broker.signal(signal.SIGCONT)


@pytest.mark.service
class TestKafka:
    """What only the real log does."""

    async def test_partition_and_timestamp(self, broker: Broker, tenant: str) -> None:
        """The time is when the broker appended, not when a door with a clock of its own received."""
        began_ms = int(time.time() * 1000)
        async with KafkaEventLog(broker.bootstrap) as log:
            await log.append([query(tenant, n) for n in range(50)])
        for topic, partition, key, _, timestamp in await broker.records(tenant):
            assert (topic, partition) == ("interactions", (murmur2(key) & 0x7FFFFFFF) % 24)
            assert began_ms <= timestamp <= time.time() * 1000

    async def test_a_silent_broker_is_unconfirmed_at_our_deadline_and_nothing_is_lost(
        self, broker: Broker, tenant: str
    ) -> None:
        async with KafkaEventLog(broker.bootstrap, deadline_s=1.0) as log:
            (first,) = await log.append([query(tenant, 0)])
            assert first.confirmed
            async with paused(broker):
                started = time.monotonic()
                results = await log.append([query(tenant, n) for n in range(1, 11)])
                assert 0.9 <= time.monotonic() - started < 3.0
                assert [result.confirmed for result in results] == [False] * 10
                assert log.in_flight_bytes > 0
            async with asyncio.timeout(30):
                while log.in_flight_bytes:
                    await asyncio.sleep(0.01)
            (again,) = await log.append([query(tenant, 1)])
            assert again.confirmed
        stored = [decode_event(record[3]).id for record in await broker.records(tenant)]
        assert sorted(stored) == sorted([*(f"e-{n}" for n in range(11)), "e-1"])

    async def test_beyond_the_cap_nothing_is_tried(self, broker: Broker, tenant: str) -> None:
        async with KafkaEventLog(broker.bootstrap, deadline_s=0.5, max_in_flight_bytes=4096) as log:
            async with paused(broker):
                await log.append([query(tenant, 1, text="x" * 3000)])
                with pytest.raises(Retryable, match="cap of 4096") as caught:
                    await log.append([query(tenant, 2, text="x" * 3000)])
                assert caught.value.retry_after_s > 0
            async with asyncio.timeout(30):
                while log.in_flight_bytes:
                    await asyncio.sleep(0.01)
        assert [decode_event(record[3]).id for record in await broker.records(tenant)] == ["e-1"]

    async def test_more_than_a_batch_holds_is_sent_in_several(self, broker: Broker, tenant: str) -> None:
        events = [
            seal_event(
                QueryAsked(query_id="q", text="x" * 100_000),
                id=str(n),
                source="s",
                tenant=tenant,
                recordedtime=NOW,
            )
            for n in range(30)
        ]
        async with KafkaEventLog(broker.bootstrap) as log:
            assert all(result.confirmed for result in await log.append(events))
        assert len(await broker.records(tenant)) == 30

    async def test_a_record_that_is_too_large_is_unconfirmed_alone(self, broker: Broker, tenant: str) -> None:
        async with KafkaEventLog(broker.bootstrap) as log:
            events = [query(tenant, 1), query(tenant, 2, text="x" * 1_100_000), query(tenant, 3)]
            results = await log.append(events)
        assert [result.confirmed for result in results] == [True, False, True]
        assert "larger than" in results[1].detail

    async def test_a_dead_sender_is_fatal(self, broker: Broker, tenant: str) -> None:
        async with KafkaEventLog(broker.bootstrap) as log:
            assert log._producer is not None
            task = log._producer._sender.sender_task
            task.cancel()
            await asyncio.wait([task])
            with pytest.raises(Fatal, match="sender died"):
                await log.append([query(tenant, 1)])

    async def test_a_lost_count_is_fatal(self, broker: Broker, tenant: str) -> None:
        async with KafkaEventLog(broker.bootstrap) as log:
            (first,) = await log.append([query(tenant, 1)])
            assert first.confirmed
            assert log._producer is not None
            # What a batch that the broker refuses for good leaves behind.
            partition = partition_hash(record_key(tenant, "q-1")) % 24
            numbers = log._producer._txn_manager
            numbers.increment_sequence_number(TopicPartition("interactions", partition), 5)
            with pytest.raises(Fatal, match="lost count"):
                await log.append([query(tenant, 1)])
            assert log.in_flight_bytes == 0
        async with KafkaEventLog(broker.bootstrap) as log:
            (again,) = await log.append([query(tenant, 1)])
            assert again.confirmed

    async def test_closing_waits_no_longer_than_the_deadline(self, broker: Broker, tenant: str) -> None:
        async with paused_after_open(broker) as log:
            await log.append([query(tenant, 1)])
            started = time.monotonic()
        assert time.monotonic() - started < 5.0

    async def test_without_a_broker_it_is_retryable(self, tmp_path: Path) -> None:
        port = allocate_ports(tmp_path, ("nothing",))["nothing"]
        with pytest.raises(Retryable, match="no Kafka broker answers"):
            async with KafkaEventLog(f"127.0.0.1:{port}"):
                raise AssertionError("it opened")

    async def test_unopened_it_is_fatal(self) -> None:
        with pytest.raises(Fatal, match="not opened"):
            await KafkaEventLog("127.0.0.1:1").append([query("t", 1)])


@asynccontextmanager
async def paused_after_open(broker: Broker) -> AsyncIterator[KafkaEventLog]:
    log = KafkaEventLog(broker.bootstrap, deadline_s=0.5)
    await log.__aenter__()
    try:
        broker.signal(signal.SIGSTOP)
        yield log
        await log.__aexit__(None, None, None)
    finally:
        broker.signal(signal.SIGCONT)
