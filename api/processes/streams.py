"""The stream worker: the one process that writes ClickHouse."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import quote

import structlog
from prometheus_client import CollectorRegistry

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import now
from api.processes.measured import MeasuredLog, MeasuredLookup, MeasuredSink, watch_disk
from api.processes.serving import serve_until
from api.processes.worker_metrics import WorkerMetrics
from api.settings import Settings
from schemas.errors import Retryable
from schemas.topics import INTERACTIONS

log = structlog.get_logger(__name__)

#: How often waiting feedback is counted; the statement reads all feedback that ever waited.
_COUNT_WAITING_S = 10.0
#: How often it is asked when the records came that wait at the start; then their age counts from there.
_LAG_AGE_ATTEMPTS = 5


def statement_timeout_s(retry_for_s: float) -> float:
    """How long a statement of the worker may go unanswered: there is time for another before it gives up."""
    return retry_for_s / 2


async def main(settings: Settings, place: Place) -> None:
    """Migrate the store, then fold and write until SIGTERM; the batches in hand are finished first."""
    from api.http.monitor import create_monitor
    from infra.clickhouse.connection import open_client
    from infra.clickhouse.lag import report_lag
    from infra.clickhouse.migrate import claim_fold_version, migrate_store
    from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
    from infra.clickhouse.waiting import ClickHouseWaitingLookup, report_waiting
    from infra.kafka.age import oldest_waiting
    from infra.kafka.grow import GrowthWatch
    from infra.kafka.log import GroupProgress, Progress, ensure_topics
    from infra.kafka.placement import KafkaPlacement
    from infra.kafka.producer import KafkaEventLog
    from infra.kafka.sink import KafkaEventSink
    from streams.faust_app import StreamWorker
    from streams.fold import FOLD_VERSION
    from streams.placement import PlacedBatchProcessor
    from streams.waiting import ReferenceResolver

    told = stopping()
    # workers of one place must not share it; the id may hold anything
    directory = place.data / "faust" / quote(settings.streams.instance or "worker", safe="")
    await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
    await ensure_topics(settings.kafka)
    # Counts have a client of their own: they may take long, and nothing of the worker waits.
    patient_client = await asyncio.to_thread(open_client, settings.clickhouse)
    applied = await asyncio.to_thread(migrate_store, settings.clickhouse)
    await asyncio.to_thread(claim_fold_version, patient_client, FOLD_VERSION)
    client = await asyncio.to_thread(
        open_client, settings.clickhouse, timeout_s=statement_timeout_s(settings.streams.retry_for_s)
    )
    log.info("store ready", migrations_applied=applied, fold_version=FOLD_VERSION)
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    watch_disk(place.data, registry)
    bootstrap = settings.kafka.bootstrap
    async with (
        KafkaEventLog(bootstrap, client_id="ratchet-streams") as event_log,
        GroupProgress(bootstrap, settings.streams.group) as group,
        KafkaPlacement(bootstrap) as placement,
    ):
        to_log = KafkaEventSink(MeasuredLog(event_log, registry))
        processor = PlacedBatchProcessor(
            MeasuredSink(ClickHouseRowSink(client), registry),
            MeasuredLookup(ClickHouseRecordLookup(client), registry),
            to_log,
            settings.streams,
            placement=placement,
            resolver=ReferenceResolver(
                ClickHouseWaitingLookup(client), to_log, retry_for_s=settings.streams.retry_for_s
            ),
        )
        worker = StreamWorker(
            settings.streams,
            processor,
            bootstrap=bootstrap,
            directory=directory,
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
        grown: list[str] = []

        def start_anew(why: str) -> None:
            grown.append(why)
            told.set()

        watch = GrowthWatch(start_anew)

        def observe_lag(progress: Progress) -> None:
            metrics.observe_lag(progress)
            watch.look(progress)

        def reports_lag() -> bool:
            """Of all workers, the one that has this partition now."""
            if not worker.app.started:
                return False
            mine = worker.app.consumer.assignment()
            return any((one.topic, one.partition) == (INTERACTIONS, 0) for one in mine)

        async def follow_lag() -> None:
            for _ in range(_LAG_AGE_ATTEMPTS):
                try:
                    progress = await group.read()
                    metrics.note_oldest(progress, await oldest_waiting(bootstrap, progress))
                    break
                except Retryable as error:
                    log.warning("when the oldest record came is not known yet", why=str(error))
                    await asyncio.sleep(settings.streams.lag_interval_s)
            await report_lag(
                group,
                patient_client,
                interval_s=settings.streams.lag_interval_s,
                now=now,
                observe=observe_lag,
                writes=reports_lag,
            )

        lagging = asyncio.create_task(follow_lag(), name="follow-lag")
        # One that ended by itself failed: gauges that stand still would look like a worker that is well.
        lagging.add_done_callback(lambda _: told.set())
        counting = asyncio.create_task(
            report_waiting(patient_client, interval_s=_COUNT_WAITING_S, observe=metrics.observe_waiting),
            name="count-waiting",
        )
        counting.add_done_callback(lambda _: told.set())
        address = settings.streams_http
        await serve_until(monitor, address.host, address.port, told)
        lagging.cancel()
        counting.cancel()
        worker.stop()
        await running
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(lagging, counting)
    if grown:
        raise Retryable(f"{grown[0]}: this worker starts anew and reads all of them")


if __name__ == "__main__":
    run_process("streams", main)
