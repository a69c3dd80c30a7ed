"""Search: the versions that the lifecycle wants, over the tenants' documents."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import structlog

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import now
from api.processes.keys import key_ring
from api.processes.measured import MeasuredLog, watch_disk
from api.processes.serving import serve_until
from api.settings import Settings

if TYPE_CHECKING:
    from schemas.envelope import Event
    from schemas.lifecycle_state import Outcome
    from schemas.tenant_state import LifecycleState

log = structlog.get_logger(__name__)


async def main(settings: Settings, place: Place) -> None:
    """Follow lifecycle and documents, load what is wanted, answer until SIGTERM."""
    from aiokafka import AIOKafkaProducer

    from api.http.metrics import HttpMetrics
    from api.http.rates import Rates
    from api.http.search import create_search_app
    from infra.kafka.gate import GatedEventLog
    from infra.kafka.lifecycle import KafkaLifecycleLog, LifecycleTail
    from infra.kafka.log import ensure_topics
    from infra.kafka.producer import KafkaEventLog
    from infra.kafka.sink import KafkaEventSink
    from infra.kafka.tail import TopicTail
    from learners.artifacts import Artifacts
    from learners.search.service import SearchService
    from schemas.codec import decode_event
    from schemas.errors import Fatal, Rejectable
    from schemas.topics import DOCUMENTS, PLATFORM

    told = stopping()
    metrics = HttpMetrics()
    watch_disk(place.data, metrics.registry)
    await ensure_topics(settings.kafka)
    bootstrap = settings.kafka.bootstrap
    services: list[SearchService] = []
    keys = key_ring(settings)

    def take_lifecycle(event: Event, outcome: Outcome, state: LifecycleState) -> None:
        keys.take(event, outcome, state)
        if services:
            services[0].wake()

    def take_document(partition: int, offset: int, value: bytes) -> None:
        try:
            services[0].take_document(decode_event(value))
        except Rejectable as rejected:
            # The stream worker keeps such a record in `rejected`; here it changes nothing.
            log.error("document record skipped", partition=partition, offset=offset, error=str(rejected))

    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        async with (
            KafkaEventLog(
                bootstrap, deadline_s=settings.search.report_deadline_s, client_id="search"
            ) as event_log,
            LifecycleTail(bootstrap, on_event=take_lifecycle) as lifecycle,
        ):
            keys.follow(lambda: lifecycle.caught_up)
            service = SearchService(
                settings.search,
                Artifacts(place.data / settings.artifacts.directory),
                KafkaLifecycleLog(lifecycle, producer),
                lifecycle.current,
                KafkaEventSink(MeasuredLog(GatedEventLog(event_log, lifecycle), metrics.registry)),
                others_say_ready=frozenset(
                    name for name, tenant in settings.tenants.items() if tenant.ready_by == "application"
                ),
                now=now,
                random_bytes=os.urandom,
            )
            services.append(service)
            async with TopicTail(bootstrap, DOCUMENTS, take_document) as documents:
                await lifecycle.wait_caught_up()
                await documents.wait_caught_up()
                tenants = tuple(settings.tenants)

                def waiting() -> str | None:
                    missing = [tenant for tenant in tenants if not service.ready(tenant)]
                    return f"no version is loaded yet for {', '.join(missing)}" if missing else None

                def check() -> None:
                    if documents.failure or lifecycle.failure:
                        raise Fatal("documents or lifecycle can no longer be followed")
                    now_there = lifecycle.current(PLATFORM).partitions.get(DOCUMENTS, 0)
                    if now_there > len(documents.position):
                        raise Fatal(f"documents has {now_there} partitions now: this process reads them anew")

                maintaining = asyncio.create_task(service.maintain(tenants, check), name="maintain")
                maintaining.add_done_callback(lambda _: told.set())
                app = create_search_app(
                    service,
                    keys,
                    metrics,
                    waiting=waiting,
                    rates=Rates(max_requests_per_s=settings.ingest.max_requests_per_s),
                )
                address = settings.search_http
                await serve_until(app, address.host, address.port, told)
                if maintaining.done():
                    await maintaining
                maintaining.cancel()
                await asyncio.gather(maintaining, return_exceptions=True)
                service.close()
    finally:
        await producer.stop()


if __name__ == "__main__":
    run_process("search", main)
