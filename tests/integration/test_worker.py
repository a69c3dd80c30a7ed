"""The stream worker on real Kafka and the real engine: killed where it hurts, and the counts still add up."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupLoadInProgressError, NotCoordinatorForGroupError
from aiokafka.protocol.commit import OffsetFetchRequest, OffsetFetchResponse_v3
from clickhouse_connect.driver.client import Client
from msgspec.structs import replace

from api.cli.rebuild import committed_when_stopped
from infra.clickhouse.connection import LIVE, Databases, open_client
from infra.kafka.log import GroupProgress, KafkaLogReader, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.envelope import Event
from schemas.errors import Fatal, Reason, Retryable
from schemas.interactions import Hit, RetrievalServed
from schemas.rejections import rejection_entry_id
from schemas.topics import DOCUMENTS, INTERACTIONS, LIFECYCLE
from streams.batch import BatchProcessor
from streams.faust_app import EXIT_FATAL
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Table
from streams.settings import StreamSettings
from tests.contents import held_in_memory, held_on_clickhouse
from tests.lifecycle_events import whole_story
from tests.live_services import free_ports, running_engine, running_kafka, wait_until
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
from tests.worker_process import WorkerOptions, running_worker

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

FOLDED: tuple[Table, ...] = ("events", "episodes", "contributions", "documents", "lifecycle")


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    with running_kafka(tmp_path_factory.mktemp("kafka")) as settings:
        asyncio.run(ensure_topics(settings))
        yield settings


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture
def options(
    kafka: KafkaSettings, engine: ClickHouseSettings, tmp_path: Path, request: pytest.FixtureRequest
) -> WorkerOptions:
    """A worker of its own group that writes into databases of its own."""
    name = request.node.name
    return WorkerOptions(
        bootstrap=kafka.bootstrap,
        clickhouse=engine,
        databases=Databases(f"{name}_store", f"{name}_views"),
        streams=StreamSettings(group=name, batch_events=200, commit_interval_s=0.2),
        directory=str(tmp_path),
    )


async def send(bootstrap: str, events: list[Event]) -> None:
    async with KafkaEventLog(bootstrap) as log:
        results = await log.append(events)
        assert all(result.confirmed for result in results)


async def send_bytes(bootstrap: str, topic: str, key: bytes, value: bytes) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key)
    finally:
        await producer.stop()


async def wait_caught_up(options: WorkerOptions, limit_s: float = 60.0) -> None:
    """Until everything that is in the log is committed."""
    async with asyncio.timeout(limit_s), GroupProgress(options.bootstrap, options.streams.group) as progress:
        while True:
            # a broker that has had no group yet has no coordinator either
            with contextlib.suppress(Retryable):
                partitions = [one for ps in (await progress.read()).values() for one in ps.values()]
                if all(one.committed >= one.end for one in partitions):
                    return
            await asyncio.sleep(0.1)


async def expected_rows(bootstrap: str) -> MemoryStore:
    """The whole log, folded in memory, a topic at once."""
    reader, store = KafkaLogReader(bootstrap), MemoryStore()
    processor = BatchProcessor(store, store, MemoryLog(), StreamSettings())
    for topic in (INTERACTIONS, DOCUMENTS, LIFECYCLE):
        async for messages in reader.read(topic, await reader.end_offsets(topic)):
            await processor.process(topic, messages)
    return store


async def assert_rows_are_exact(options: WorkerOptions, client: Client) -> None:
    expected = await expected_rows(options.bootstrap)
    for table in FOLDED:
        found = held_on_clickhouse(client, options.databases, table)
        assert found == held_in_memory(expected, table), table


def traffic(seed: int, queries: int) -> list[Event]:
    """Conversations, shuffled: late, early, repeated, conflicting and retracted events of two tenants."""
    generator = random.Random(seed)
    events: list[Event] = []
    for n in range(queries):
        tenant, query = generator.choice(["acme", "other"]), f"s{seed}-{n}"
        talk = conversation(query, user=f"u{n % 7}", arm=generator.choice(["", "new"]), at_s=n, tenant=tenant)
        events += talk
        if n % 5 == 0:
            events.append(retracted(query, f"{query}-click", at_s=n + 3, tenant=tenant))
        if n % 4 == 0:
            events.append(received_again(talk[0], at_s=n + 9))
        if n % 6 == 0:
            events.append(asked(query, user="moved", at_s=n - 1, tenant=tenant))
        if n % 7 == 0:
            events.append(clicked(query, "d3", at_s=n + 20, tenant=tenant))
    generator.shuffle(events)
    return events + events[: len(events) // 10]


async def test_killed_in_the_middle_of_a_batch(options: WorkerOptions, engine: ClickHouseSettings) -> None:
    client = open_client(engine)
    await send(options.bootstrap, traffic(1, 400))
    await send(options.bootstrap, [stored("d1", "one", "e1"), removed("d2", "e2"), *whole_story()])
    paused = Path(options.directory, "paused")
    for table in ("events", "contributions", "episodes"):
        with running_worker(replace(options, pause_after=table)) as worker:
            await wait_until(f"a stored block of {table}", paused.exists)
            worker.kill()
    with running_worker(options) as worker:
        await send(options.bootstrap, traffic(2, 200))
        await wait_caught_up(options)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
    assert "heavy modules: []" in Path(options.directory, "worker.log").read_text()
    await assert_rows_are_exact(options, client)
    client.close()


async def test_poison_ends_in_rejected_and_stops_nobody(
    options: WorkerOptions, engine: ClickHouseSettings
) -> None:
    client = open_client(engine)
    hits = (Hit("d1", 1 << 40),)  # no column has room for this rank
    unstorable = sealed(RetrievalServed(query_id="poison", retrieval_id="r", hits=hits), "unstorable", at_s=9)
    events = [*conversation("poison"), unstorable, *conversation("healthy")]
    await send(options.bootstrap, events)
    garbage = b"{not an event"
    await send_bytes(options.bootstrap, INTERACTIONS, b"acme/poison", garbage)
    await send_bytes(options.bootstrap, LIFECYCLE, b"acme", garbage)
    with running_worker(options):
        await wait_caught_up(options)
        views = options.databases.views
        rows = client.query(
            f"SELECT tenant, reason, event_id, original FROM {views}.rejected WHERE reason != 'conflict'"
        ).result_rows
        assert {(row[0], row[1], row[2]) for row in rows} == {
            ("acme", Reason.UNDECODABLE.value, ""),
            ("acme", Reason.STORAGE_REFUSED.value, "unstorable"),
        }
        assert garbage.decode() in {row[3] for row in rows}
        seen = client.query(
            f"SELECT query_id, retrieval_count, clicks FROM {views}.episodes "
            "WHERE query_id IN ('poison', 'healthy') ORDER BY query_id"
        ).result_rows
        assert [tuple(row) for row in seen] == [("healthy", 1, 1), ("poison", 1, 1)]
        entry = rejection_entry_id("acme", garbage)
        assert client.command(f"SELECT count() FROM {views}.rejected WHERE entry_id = '{entry}'") == 1
    await assert_rows_are_exact(options, client)
    client.close()


async def test_a_worker_whose_store_stays_down_ends_without_committing(options: WorkerOptions) -> None:
    down = replace(options, store_down=True, streams=replace(options.streams, retry_for_s=0.5))
    await send(options.bootstrap, conversation("kept"))
    with running_worker(down) as worker:
        assert await asyncio.to_thread(worker.wait, 60) == EXIT_FATAL
    async with GroupProgress(options.bootstrap, options.streams.group) as progress:
        committed = [one.committed for one in (await progress.read())[INTERACTIONS].values()]
    assert sum(committed) == 0


async def test_a_coordinator_that_is_still_loading_is_no_group_without_commits(
    options: WorkerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(options.bootstrap, conversation("committed"))
    with running_worker(options) as worker:
        await wait_caught_up(options)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
    answers = ["loading", "moved", "loading"]
    send_request = AIOKafkaAdminClient._send_request

    async def loading_first(self: AIOKafkaAdminClient, request: Any, node_id: int | None = None) -> Any:
        if isinstance(request, OffsetFetchRequest) and answers:
            code = {"loading": GroupLoadInProgressError, "moved": NotCoordinatorForGroupError}[answers.pop()]
            return OffsetFetchResponse_v3(0, [], code.errno)
        return await send_request(self, request, node_id)

    monkeypatch.setattr(AIOKafkaAdminClient, "_send_request", loading_first)
    async with GroupProgress(options.bootstrap, options.streams.group) as progress:
        with pytest.raises(Retryable, match="coordinator of group"):
            await progress.read()
    # a rebuild right after the broker's start waits: with 0 everywhere it would build empty tables
    committed = await committed_when_stopped(options.bootstrap, options.streams, ask_whether_stopped=False)
    assert answers == []
    ends = await KafkaLogReader(options.bootstrap).end_offsets(INTERACTIONS)
    assert sum(committed[INTERACTIONS].values()) == sum(ends.values()) > 0


async def test_a_rebuild_waits_for_a_worker_that_ends_and_is_refused_by_one_that_does_not(
    options: WorkerOptions,
) -> None:
    await send(options.bootstrap, conversation("read"))
    with running_worker(options) as worker:
        await wait_caught_up(options)
        with pytest.raises(Fatal, match=r"expected no worker in group .*, but faust.*@127\.0\.0\.1"):
            await committed_when_stopped(options.bootstrap, options.streams, ask_whether_stopped=True)
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
    # its static id is in the group for a session timeout more
    committed = await committed_when_stopped(options.bootstrap, options.streams, ask_whether_stopped=True)
    assert sum(committed[INTERACTIONS].values()) > 0


async def test_a_worker_that_can_no_longer_report_its_lag_ends(
    options: WorkerOptions, engine: ClickHouseSettings
) -> None:
    directory = Path(options.directory)
    (directory / "var").mkdir()  # the supervisor does
    (port,) = free_ports(1)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RATCHET_")}
    environment |= {
        "RATCHET_KAFKA__BOOTSTRAP": options.bootstrap,
        "RATCHET_CLICKHOUSE__URL": engine.url,
        "RATCHET_CLICKHOUSE__PASSWORD": engine.password,
        "RATCHET_STREAMS__GROUP": options.streams.group,
        "RATCHET_STREAMS__LAG_INTERVAL_S": "0.1",
        "RATCHET_STREAMS_HTTP__PORT": str(port),
    }
    client = open_client(engine)
    with (directory / "streams.log").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api.processes.streams", "--directory", str(directory)],
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        await wait_until("a reported lag", lambda: reported(client) or process.poll() is not None)
        assert process.poll() is None, (directory / "streams.log").read_text()
        client.command(f"DROP TABLE {LIVE.store}.offsets SYNC")
        code = await asyncio.to_thread(process.wait, 60)
    finally:
        process.kill()
        process.wait(30)
    assert code == EXIT_FATAL
    assert "writing the lag" in (directory / "streams.log").read_text()
    client.close()


def reported(client: Client) -> bool:
    """A worker has written a lag into the living store."""
    if not client.query(f"EXISTS TABLE {LIVE.store}.offsets").result_rows[0][0]:
        return False
    return bool(client.query(f"SELECT count() FROM {LIVE.store}.offsets").result_rows[0][0])


async def test_a_second_worker_takes_over(options: WorkerOptions, engine: ClickHouseSettings) -> None:
    client = open_client(engine)
    other = replace(
        options,
        directory=options.directory + "/other",
        streams=replace(options.streams, instance="worker-2"),
    )
    await send(options.bootstrap, traffic(3, 100))
    with running_worker(options) as first, running_worker(other):
        await send(options.bootstrap, traffic(4, 100))
        await wait_caught_up(options)
        first.kill()
        # events of queries that the first one wrote, to whatever worker has their partitions now
        await send(options.bootstrap, [clicked(f"s4-{n}", "d1", f"more-{n}", at_s=900) for n in range(50)])
        await wait_caught_up(options)
    await assert_rows_are_exact(options, client)
    client.close()


async def test_a_log_that_forgets_is_refused(kafka: KafkaSettings) -> None:
    assert await ensure_topics(kafka) == []
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        await _set_retention(admin, "604800000")
        with pytest.raises(Fatal, match=r"retention\.ms"):
            await ensure_topics(kafka)
        assert await ensure_topics(replace(kafka, allow_forgetting=True)) == []
        await _set_retention(admin, "-1")
        assert await ensure_topics(kafka) == []
    finally:
        await admin.close()


async def _set_retention(admin: AIOKafkaAdminClient, value: str) -> None:
    configs = {"retention.ms": value, "retention.bytes": "-1", "cleanup.policy": "delete"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, INTERACTIONS, configs=configs)])
    async with asyncio.timeout(20):  # a broker learns of a change a moment later
        while True:
            (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, INTERACTIONS)])
            if {entry[0]: entry[1] for entry in answer.resources[0][4]}["retention.ms"] == value:
                return
            await asyncio.sleep(0.05)
