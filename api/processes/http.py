"""The API: every way in over HTTP, and `GET /v1/serving`."""

from __future__ import annotations

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import code_version, mint_id, now
from api.processes.keys import key_ring
from api.processes.serving import serve_until
from api.settings import Settings


async def main(settings: Settings, place: Place) -> None:
    """Serve until SIGTERM; what was accepted is in the log by then."""
    from api.http.app import create_app
    from api.http.metrics import HttpMetrics
    from infra.kafka.lifecycle import LifecycleTail
    from infra.kafka.log import ensure_topics
    from infra.kafka.producer import KafkaEventLog

    told = stopping()
    await ensure_topics(settings.kafka)
    metrics = HttpMetrics()
    async with (
        LifecycleTail(settings.kafka.bootstrap) as lifecycle,
        KafkaEventLog(
            settings.kafka.bootstrap,
            deadline_s=settings.ingest.deadline_s,
            max_in_flight_bytes=settings.ingest.max_in_flight_bytes,
        ) as log,
    ):
        metrics.watch(in_flight_bytes=lambda: log.in_flight_bytes)
        app = create_app(
            event_log=log,
            keys=key_ring(settings),
            serving=lifecycle,
            settings=settings.ingest,
            now=now,
            mint=mint_id,
            code_version=code_version(),
            metrics=metrics,
        )
        await serve_until(app, settings.api.host, settings.api.port, told)


if __name__ == "__main__":
    run_process("api", main)
