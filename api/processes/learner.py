"""The learner: watches, trains, judges and rolls out; heavy work is in its children."""

from __future__ import annotations

import asyncio

import structlog
from prometheus_client import CollectorRegistry

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import mint_id, now
from api.processes.measured import watch_disk
from api.processes.serving import serve_until
from api.settings import Settings

log = structlog.get_logger(__name__)


async def main(settings: Settings, place: Place) -> None:
    """Take the step that is due, for ever, until SIGTERM; a step under way is taken again after a restart."""
    from aiokafka import AIOKafkaProducer

    from api.http.metrics import make_metric
    from api.http.monitor import create_monitor
    from api.processes.learner_ports import LogFolds
    from api.processes.quality import QualityFeed
    from infra.clickhouse.connection import open_client
    from infra.clickhouse.learning import ClickHouseQueryFeed, ClickHouseUnitMeasures
    from infra.kafka.lifecycle import KafkaLifecycleLog, LifecycleTail
    from infra.kafka.log import GroupProgress, ensure_topics
    from infra.kafka.stored import StoredUntil
    from learners.artifacts import Artifacts
    from learners.daemon.journal import Journal
    from learners.daemon.learner import Learner
    from learners.daemon.rolling import RollingSteps
    from learners.daemon.training import TrainingSteps
    from learners.watch.tester import TwoSampleProcess
    from schemas import telemetry
    from schemas.codec import seal_event
    from schemas.lifecycle import TenantConfigured

    told = stopping()
    await ensure_topics(settings.kafka)
    bootstrap = settings.kafka.bootstrap
    client = await asyncio.to_thread(open_client, settings.clickhouse)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        async with (
            LifecycleTail(bootstrap) as lifecycle,
            TwoSampleProcess(settings.watch) as test,
            GroupProgress(bootstrap, settings.streams.group) as progress,
        ):
            await lifecycle.wait_caught_up()
            journal = Journal(KafkaLifecycleLog(lifecycle, producer), now)
            for name, tenant in settings.tenants.items():
                if lifecycle.current(name).mode != tenant.mode:
                    configured = seal_event(
                        TenantConfigured(mode=tenant.mode),
                        id=mint_id(),
                        source="ratchet/settings",
                        tenant=name,
                        recordedtime=now(),
                        door="learner",
                    )
                    await journal.lifecycle.append(configured)
            folds = LogFolds(bootstrap, settings.streams.group)
            feed = QualityFeed(
                ClickHouseQueryFeed(client, settings.watch.settle_s, StoredUntil(progress.read, now)),
                lambda tenant: lifecycle.current(tenant).champion,
                reference_queries=settings.watch.reference_queries,
                window_queries=settings.watch.window_queries,
            )
            learner = Learner(
                settings.learner,
                settings.watch,
                journal,
                feed,
                test,
                TrainingSteps(
                    settings.learner,
                    settings.freeze,
                    Artifacts(place.data / settings.artifacts.directory),
                    place.data / "log",
                    journal,
                    folds.episodes,
                    folds.documents,
                    folds.ends,
                ),
                RollingSteps(settings.learner, journal, ClickHouseUnitMeasures(client, folds.committed)),
            )
            registry = CollectorRegistry()
            watch_disk(place.data, registry)
            steps = make_metric(telemetry.LEARNER_STEPS, registry)
            steps_seen = 0
            stage = make_metric(telemetry.LEARNER_STAGE, registry)
            quality = make_metric(telemetry.QUALITY_RATIO, registry)
            reference = make_metric(telemetry.QUALITY_REFERENCE_RATIO, registry)
            running = asyncio.create_task(learner.run(tuple(settings.tenants)), name="learner")
            running.add_done_callback(lambda _: told.set())

            def stuck() -> str | None:
                return f"the learner ended: {running}" if running.done() else None

            async def report() -> None:
                nonlocal steps_seen
                while True:
                    steps.inc(learner.steps_taken - steps_seen)
                    steps_seen = learner.steps_taken
                    stage.clear()
                    for tenant, step in learner.present.items():
                        stage.labels(tenant, step).set(1)
                    for gauge in (quality, reference):
                        gauge.clear()  # a share that cannot be said is no figure
                    for tenant, shares in feed.shares().items():
                        if shares.window is not None:
                            quality.labels(tenant).set(shares.window)
                        if shares.reference is not None:
                            reference.labels(tenant).set(shares.reference)
                    await asyncio.sleep(1.0)

            reporting = asyncio.create_task(report())
            monitor = create_monitor(stuck=stuck, waiting=lambda: None, registry=registry)
            address = settings.learner_http
            await serve_until(monitor, address.host, address.port, told)
            reporting.cancel()
            if running.done():
                await running
            running.cancel()
            await asyncio.gather(running, reporting, return_exceptions=True)
    finally:
        await producer.stop()


if __name__ == "__main__":
    run_process("learner", main)
