"""The stream worker as a process for tests: real Kafka, real engine, and a fault where a test wants one.

Run as a script with one argument, the JSON of `WorkerOptions`. SIGTERM ends it in order.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import claim_fold_version, migrate
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.clickhouse.waiting import ClickHouseWaitingLookup
from infra.kafka.producer import KafkaEventLog
from infra.kafka.sink import KafkaEventSink
from infra.settings import ClickHouseSettings
from schemas.errors import Retryable
from streams.batch import BatchProcessor
from streams.faust_app import StreamWorker
from streams.fold import FOLD_VERSION
from streams.ports import Block
from streams.settings import StreamSettings
from streams.waiting import ReferenceResolver

#: What a worker must never import (L12).
_HEAVY = {"torch", "evidently", "optuna", "transformers", "sentence_transformers", "pandas", "chdb"}


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, and where it fails."""

    bootstrap: str
    clickhouse: ClickHouseSettings
    databases: Databases
    streams: StreamSettings
    directory: str
    #: Touch `<directory>/paused` and stand still for ever once a block of this table has been stored.
    pause_after: str = ""
    #: The same, before a block of this table is stored.
    pause_before: str = ""
    #: Every insert fails, as if the store were down.
    store_down: bool = False


class FaultySink(ClickHouseRowSink):
    """The real sink, with the faults of the options."""

    options: WorkerOptions

    async def insert(self, block: Block) -> None:
        """Store the block, then fail as told."""
        if self.options.store_down:
            raise Retryable("the store is down")
        if block.table == self.options.pause_before:
            await self._stand_still()
        await super().insert(block)
        if block.table == self.options.pause_after:
            await self._stand_still()

    async def _stand_still(self) -> None:
        Path(self.options.directory, "paused").touch()
        await asyncio.Event().wait()


async def work(options: WorkerOptions) -> None:
    """Run until SIGTERM."""
    client = open_client(options.clickhouse)
    migrate(client, options.databases)
    claim_fold_version(client, FOLD_VERSION, options.databases)
    sink = FaultySink(client, options.databases)
    sink.options = options
    async with KafkaEventLog(options.bootstrap) as log:
        processor = BatchProcessor(
            sink,
            ClickHouseRecordLookup(client, options.databases),
            KafkaEventSink(log),
            options.streams,
            resolver=ReferenceResolver(
                ClickHouseWaitingLookup(client, options.databases),
                KafkaEventSink(log),
                retry_for_s=options.streams.retry_for_s,
            ),
        )
        worker = StreamWorker(
            options.streams,
            processor,
            bootstrap=options.bootstrap,
            directory=Path(options.directory) / "faust",
            observe=lambda report: print(report, flush=True),
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, worker.stop)
        await worker.run()
    print("heavy modules:", sorted(_HEAVY & sys.modules.keys()), flush=True)


@contextmanager
def running_worker(options: WorkerOptions) -> Iterator[subprocess.Popen[bytes]]:
    """The worker as a child; killed at the end if it still runs."""
    directory = Path(options.directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "paused").unlink(missing_ok=True)
    with (directory / "worker.log").open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, msgspec.json.encode(options).decode()],
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    asyncio.run(work(msgspec.json.decode(sys.argv[1], type=WorkerOptions)))
