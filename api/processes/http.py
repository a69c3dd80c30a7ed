"""The API: every way in over HTTP, and `GET /v1/serving`."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Final

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import code_version, mint_id, now
from api.processes.keys import key_ring
from api.processes.measured import MeasuredLog
from api.processes.serving import serve_until
from api.settings import Settings
from schemas.errors import Fatal

if TYPE_CHECKING:
    from infra.kafka.lifecycle import LifecycleTail
    from infra.kafka.producer import KafkaEventLog
    from ingest.keys import IssuedKeys

#: What requests under way get beyond the log's own deadline, before the process ends without them.
_GRACE_S: Final = 2.0


async def main(settings: Settings, place: Place) -> None:
    """Serve until SIGTERM; what was accepted is in the log by then."""
    from infra.kafka.lifecycle import LifecycleTail
    from infra.kafka.log import ensure_topics
    from infra.kafka.producer import KafkaEventLog

    told = stopping()
    await ensure_topics(settings.kafka)
    keys = key_ring(settings)
    async with (
        LifecycleTail(settings.kafka.bootstrap, on_event=keys.take) as lifecycle,
        KafkaEventLog(
            settings.kafka.bootstrap,
            deadline_s=settings.ingest.deadline_s,
            max_in_flight_bytes=settings.ingest.max_in_flight_bytes,
        ) as log,
    ):
        await serve_api(settings, lifecycle, log, keys, told)


async def serve_api(
    settings: Settings, lifecycle: LifecycleTail, log: KafkaEventLog, keys: IssuedKeys, told: asyncio.Event
) -> None:
    """Serve until `told`; `keys` must listen to `lifecycle`.

    Raises Fatal once the log takes nothing more or the lifecycle cannot be followed.
    The request that met it is answered (503) before; a new process can do what this one no longer can.
    """
    from api.http.app import create_app, stop_process
    from api.http.metrics import HttpMetrics
    from infra.clickhouse.rejected import AnalystRejected
    from infra.kafka.gate import GatedEventLog

    fatal: list[Fatal] = []
    loop = asyncio.get_running_loop()
    at_last: list[asyncio.TimerHandle] = []

    def end(error: Fatal) -> None:
        if not fatal:
            fatal.append(error)
            told.set()
            # A request whose body never ends must not keep the process.
            at_last.append(loop.call_later(settings.ingest.deadline_s + _GRACE_S, stop_process, error))

    async def follow() -> None:
        try:
            while True:
                await lifecycle.wait_changed(timeout_s=60.0)
        except Fatal as error:
            end(error)

    keys.follow(lambda: lifecycle.caught_up)
    metrics = HttpMetrics()
    metrics.watch(in_flight_bytes=lambda: log.in_flight_bytes)
    rejected = AnalystRejected(settings.clickhouse)
    app = create_app(
        event_log=MeasuredLog(GatedEventLog(log, lifecycle), metrics.registry),
        keys=keys,
        serving=lifecycle,
        settings=settings.ingest,
        now=now,
        mint=mint_id,
        code_version=code_version(),
        metrics=metrics,
        rejected=rejected,
        on_fatal=end,
    )
    following = asyncio.create_task(follow(), name="follow-lifecycle")
    # What exists now lives as long as the process, and a request leaves no cycles: collect seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    try:
        await serve_until(app, settings.api.host, settings.api.port, told)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await rejected.__aexit__()
        for timer in at_last:
            timer.cancel()
    if fatal:
        raise fatal[0]


if __name__ == "__main__":
    run_process("api", main)
