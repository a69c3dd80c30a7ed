"""Alerts for those without Prometheus: asks every process for its metrics, evaluates, tells."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import structlog
from prometheus_client import CollectorRegistry

from api.processes.boot import Place, run_process, stopping
from api.processes.identity import now
from api.processes.serving import serve_until
from api.settings import HttpSettings, Settings
from schemas.errors import RatchetError

if TYPE_CHECKING:
    from api.alerts.watch import AlertWatch

log = structlog.get_logger(__name__)

#: How long without a look before this process says that it is stuck, in intervals.
_PATIENCE: Final = 5
#: Before a Kafka that is away is tried again: at first, and at most.
_FIRST_PAUSE_S: Final = 2.0
_LONGEST_PAUSE_S: Final = 30.0
#: How long a producer may take to stop.
_STOP_S: Final = 5.0


async def main(settings: Settings, place: Place) -> None:
    """Look, evaluate and tell until SIGTERM. Kafka may be away: then only the lifecycle waits for it."""
    import httpx

    from api.alerts.firing import RuleSet
    from api.alerts.scraping import scrape
    from api.alerts.watch import AlertWatch
    from api.alerts.webhook import Webhook
    from api.http.alerts import alert_routes
    from api.http.monitor import create_monitor
    from schemas.alerts import ALERTS

    told = stopping()
    chosen = settings.alerts
    if chosen.webhook_url and not chosen.webhook_url.startswith(("http://", "https://")):
        raise RatchetError(f"alerts.webhook_url: expected http:// or https://, got {chosen.webhook_url!r}")
    rules = RuleSet(ALERTS, chosen.thresholds)
    registry = CollectorRegistry()
    async with (
        # neighbours are never behind a proxy; a receiver may be
        httpx.AsyncClient(timeout=chosen.timeout_s, trust_env=False) as neighbours,
        httpx.AsyncClient(timeout=chosen.timeout_s) as outside,
    ):
        webhook = Webhook(
            outside, chosen.webhook_url, chosen.webhook_secret, registry, repeat_s=chosen.repeat_s
        )
        watch = AlertWatch(
            rules,
            chosen.targets or targets_of(settings),
            lambda url, names: scrape(neighbours, url, names),
            registry,
            on_look=webhook.update if chosen.webhook_url else lambda _raised, _time_s: None,
        )
        tasks = [
            asyncio.create_task(watch.run(chosen.interval_s), name="watch"),
            asyncio.create_task(_keep_journal(settings, watch), name="journal"),
        ]
        if chosen.webhook_url:
            tasks.append(asyncio.create_task(webhook.run(), name="webhook"))
        for task in tasks:
            task.add_done_callback(lambda _: told.set())

        def stuck() -> str | None:
            looked_at_s = watch.looked_at_s
            if looked_at_s is None or now().timestamp() - looked_at_s < _PATIENCE * chosen.interval_s:
                return None
            return f"the last look is {now().timestamp() - looked_at_s:.0f} s ago"

        monitor = create_monitor(
            stuck=stuck,
            waiting=lambda: None if watch.looked_at_s is not None else "nothing has been looked at yet",
            registry=registry,
            routes=alert_routes(watch),
        )
        address = settings.alerts_http
        await serve_until(monitor, address.host, address.port, told)
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for task in ended:
            task.result()


async def _keep_journal(settings: Settings, watch: AlertWatch) -> None:
    """Bring the platform's lifecycle to what is raised, for ever, through every outage of Kafka."""
    from aiokafka import AIOKafkaProducer
    from aiokafka.errors import KafkaError

    from api.alerts.journal import raised_before, reconcile
    from infra.kafka.lifecycle import KafkaLifecycleLog, LifecycleTail
    from infra.kafka.log import ensure_topics

    taken_over = False
    pause_s = _FIRST_PAUSE_S
    while True:
        bootstrap = settings.kafka.bootstrap
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        try:
            await ensure_topics(settings.kafka)
            await producer.start()
            async with LifecycleTail(bootstrap) as tail:
                await tail.wait_caught_up()
                lifecycle = KafkaLifecycleLog(tail, producer)
                if not taken_over:
                    watch.take_over(await raised_before(lifecycle), now().timestamp())
                    taken_over = True
                while True:
                    await reconcile(lifecycle, watch.raised, now())
                    pause_s = _FIRST_PAUSE_S
                    await asyncio.sleep(settings.alerts.interval_s)
        except (RatchetError, KafkaError) as error:
            log.warning("alerts are not in the lifecycle for now", why=str(error))
        finally:
            await _abandon(producer)
        await asyncio.sleep(pause_s)
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


async def _abandon(producer: Any) -> None:
    """Stop a producer, for as long as its broker may take; nothing of value is left in it."""
    try:
        async with asyncio.timeout(_STOP_S):
            await producer.stop()
    except TimeoutError:
        log.warning("a producer did not stop in time")


def targets_of(settings: Settings) -> Mapping[str, Sequence[str]]:
    """One process of each kind, where the settings say that it listens."""
    listening = {
        "api": settings.api,
        "streams": settings.streams_http,
        "search": settings.search_http,
        "learner": settings.learner_http,
    }
    if settings.inbox.tenants:
        listening["inbox"] = settings.inbox_http
    return {f"ratchet-{name}": (_url(http),) for name, http in listening.items()}


def _url(http: HttpSettings) -> str:
    host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host  # noqa: S104
    return f"http://[{host}]:{http.port}" if ":" in host else f"http://{host}:{http.port}"


if __name__ == "__main__":
    run_process("alerts", main)
