"""A store that says nothing: a statement of the worker fails in time for another; others may take longer."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from api.processes.streams import statement_timeout_s
from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import migrate
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.settings import ClickHouseSettings
from schemas.errors import Retryable
from streams.batch import BatchProcessor
from streams.memory import MemoryLog
from streams.settings import StreamSettings
from tests.engine_process import EngineProcess, settings_for
from tests.small_log import conversation, messages_of

pytestmark = pytest.mark.service

DATABASES = Databases("hanging_store", "hanging_views")


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with EngineProcess(settings_for(tmp_path_factory.mktemp("engine"))) as process:
        yield process


@pytest.fixture
def store(engine: EngineProcess) -> Iterator[ClickHouseSettings]:
    settings = ClickHouseSettings(url=engine.url, password="writer's")
    client = open_client(settings)
    migrate(client, DATABASES)
    client.close()
    yield settings
    engine.process.send_signal(signal.SIGCONT)


def test_the_worker_has_time_for_another_statement_and_others_for_a_long_one(
    store: ClickHouseSettings,
) -> None:
    settings = StreamSettings()
    hurried = open_client(store, timeout_s=statement_timeout_s(settings.retry_for_s))
    patient = open_client(store)
    limits: list[tuple[float, float]] = []
    for client in (hurried, patient):
        found: Any = getattr(client, "timeout")  # noqa: B009 - of the HTTP client only, which this one is
        limits.append((found.read_timeout, found.connect_timeout))
        client.close()
    (read_s, connect_s), patient_s = limits
    assert 2 * read_s <= settings.retry_for_s
    assert 2 * connect_s <= read_s
    assert patient_s == (60, 10)


async def test_what_a_hanging_store_left_unanswered_is_sent_again(
    engine: EngineProcess, store: ClickHouseSettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = StreamSettings(retry_for_s=4.0)
    client = open_client(store, timeout_s=statement_timeout_s(settings.retry_for_s))
    lookup = ClickHouseRecordLookup(client, DATABASES)
    processor = BatchProcessor(ClickHouseRowSink(client, DATABASES), lookup, MemoryLog(), settings)
    # the columns of the tables are asked for once
    await processor.process("interactions", messages_of(conversation("q0")))
    engine.process.send_signal(signal.SIGSTOP)

    def tried_again() -> bool:
        return any("will try again" in record.message for record in caplog.records)

    with caplog.at_level(logging.WARNING), pytest.raises(Retryable):
        async with asyncio.timeout(30):
            await lookup.records_of([("acme", "q0")])
    with caplog.at_level(logging.WARNING):
        written = asyncio.create_task(processor.process("interactions", messages_of(conversation("q1"))))
        async with asyncio.timeout(30):
            while not tried_again():
                assert not written.done()
                await asyncio.sleep(0.02)
        engine.process.send_signal(signal.SIGCONT)
        await written
    rows = client.query(f"SELECT uniqExact(query_id) FROM {DATABASES.views}.events").result_rows
    assert [tuple(row) for row in rows] == [(2,)]
    client.close()
