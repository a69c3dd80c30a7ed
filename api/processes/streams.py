"""The stream worker: the one process that writes ClickHouse."""

from __future__ import annotations

import asyncio
import contextlib

import structlog
from prometheus_client import CollectorRegistry

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import now
from api.processes.serving import serve_until
from api.processes.worker_metrics import WorkerMetrics
from api.settings import Settings

log = structlog.get_logger(__name__)


async def main(settings: Settings, place: Place) -> None:
    """Migrate the store, then fold and write until SIGTERM; the batches in hand are finished first."""
    from api.http.monitor import create_monitor
    from infra.clickhouse.connection import open_client
    from infra.clickhouse.lag import report_lag
    from infra.clickhouse.migrate import claim_fold_version, migrate
    from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
    from infra.kafka.log import GroupProgress, ensure_topics
    from infra.kafka.producer import KafkaEventLog
    from infra.kafka.sink import KafkaEventSink
    from streams.batch import BatchProcessor
    from streams.faust_app import StreamWorker
    from streams.fold import FOLD_VERSION

    told = stopping()
    await ensure_topics(settings.kafka)
    client = await asyncio.to_thread(open_client, settings.clickhouse)
    applied = await asyncio.to_thread(migrate, client)
    await asyncio.to_thread(claim_fold_version, client, FOLD_VERSION)
    log.info("store ready", migrations_applied=applied, fold_version=FOLD_VERSION)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    bootstrap = settings.kafka.bootstrap
    async with (
        KafkaEventLog(bootstrap, client_id="ratchet-streams") as event_log,
        GroupProgress(bootstrap, settings.streams.group) as group,
    ):
        processor = BatchProcessor(
            ClickHouseRowSink(client),
            ClickHouseRecordLookup(client),
            KafkaEventSink(event_log),
            settings.streams,
        )
        worker = StreamWorker(
            settings.streams,
            processor,
            bootstrap=bootstrap,
            directory=place.data / "faust",
            observe=metrics.observe,
        )

        def stuck() -> str | None:
            seconds = worker.stuck_for_s()
            if seconds > 2 * settings.streams.retry_for_s:
                return f"a batch has been in hand for {seconds:.0f} s"
            return None

        def waiting() -> str | None:
            return None if worker.partitions else "no partition is assigned to this worker yet"

        monitor = create_monitor(stuck=stuck, waiting=waiting, registry=registry)
        running = asyncio.create_task(worker.run(), name="worker")
        running.add_done_callback(lambda _: told.set())
        # A client of its own: a statement of the worker must not wait for this one.
        lag_client = await asyncio.to_thread(open_client, settings.clickhouse)
        lagging = asyncio.create_task(
            report_lag(
                group,
                lag_client,
                interval_s=settings.streams.lag_interval_s,
                now=now,
                observe=metrics.observe_lag,
            )
        )
        # One that ended by itself failed: gauges that stand still would look like a worker that is well.
        lagging.add_done_callback(lambda _: told.set())
        address = settings.streams_http
        await serve_until(monitor, address.host, address.port, told)
        lagging.cancel()
        worker.stop()
        await running
        with contextlib.suppress(asyncio.CancelledError):
            await lagging


if __name__ == "__main__":
    run_process("streams", main)
