"""The inbox: events that applications write to Kafka themselves, admitted and keyed anew."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import time
from collections.abc import Callable, Mapping, Sequence

import structlog
from prometheus_client import CollectorRegistry

from api.http.metrics import make_metric
from api.processes.boot import Place, run_process, stopping
from api.processes.identity import code_version, now
from api.processes.measured import MeasuredLog, watch_disk
from api.processes.serving import serve_until
from api.settings import Settings, SettingsError
from ingest.inbox import KAFKA_DOOR, InboxTaker
from ingest.intake import Receipt
from ingest.ports import Inbox, InboxRecord
from schemas import telemetry

log = structlog.get_logger(__name__)

#: Topic and number of a partition.
TopicPartition = tuple[str, int]

#: How long one look waits for records.
_LOOK_S = 1.0
#: A batch that is in hand for longer is stuck; its tries end before, unless something hangs.
_STUCK_S = 300.0


class InboxMetrics:
    """What the inbox counts, in a registry of its own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = make_metric(telemetry.INGEST_EVENTS, registry)
        self._rejections = make_metric(telemetry.INGEST_REJECTIONS, registry)
        self._ignored = make_metric(telemetry.INGEST_IGNORED, registry)
        self._lag = make_metric(telemetry.INBOX_LAG, registry)
        self._lag_seconds = make_metric(telemetry.INBOX_LAG_SECONDS, registry)
        for status in ("accepted", "rejected", "unconfirmed"):
            # there from the start: a rate does not see the first event of a counter that appears with it
            self._events.labels(KAFKA_DOOR, status)
        self._ignored.labels(KAFKA_DOOR)

    def observe(self, receipt: Receipt, ignored: int) -> None:
        """Count what became of records; one that is tried again is unconfirmed each time."""
        self._events.labels(KAFKA_DOOR, "accepted").inc(receipt.accepted)
        self._events.labels(KAFKA_DOOR, "rejected").inc(receipt.rejected)
        self._events.labels(KAFKA_DOOR, "unconfirmed").inc(receipt.unconfirmed)
        for outcome in receipt.results:
            if outcome.status == "rejected":
                self._rejections.labels(outcome.reason).inc()
        self._ignored.labels(KAFKA_DOOR).inc(ignored)

    def observe_lag(self, lag: Mapping[TopicPartition, int], ages_s: Mapping[TopicPartition, float]) -> None:
        """Show what waits, and how long; a partition that is another member's by now is shown no more."""
        self._lag.clear()
        self._lag_seconds.clear()
        for place, waiting in lag.items():
            self._lag.labels(*place).set(waiting)
            self._lag_seconds.labels(*place).set(ages_s.get(place, 0.0))


class Following:
    """Fetch, take in, commit, for ever."""

    def __init__(self, inbox: Inbox, taker: InboxTaker, *, now: Callable[[], dt.datetime]) -> None:
        self._inbox = inbox
        self._taker = taker
        self._now = now
        self._since_s: float | None = None
        #: When the oldest record came of those that were fetched last.
        self._came: dict[TopicPartition, dt.datetime] = {}

    async def run(self, told: asyncio.Event) -> None:
        """Until `told`; the batch in hand is finished first. Raises Retryable, Fatal."""
        while not told.is_set():
            records = await self._inbox.fetch(_LOOK_S)
            if not records:
                continue
            self._since_s = time.monotonic()
            self._note(records)
            await self._taker.take(records)
            await self._inbox.commit(records)
            self._since_s = None

    def _note(self, records: Sequence[InboxRecord]) -> None:
        fetched = self._now()
        # of each partition in order, so the first one is the oldest
        self._came |= {(one.topic, one.partition): one.appended or fetched for one in reversed(records)}

    def ages_s(self, lag: Mapping[TopicPartition, int]) -> dict[TopicPartition, float]:
        """How long the oldest record of each of these partitions has waited; 0 where none waits.

        Between two fetches of a partition it is that of the last one: while there are more, they are as late.
        """
        self._came = {place: came for place, came in self._came.items() if lag.get(place)}
        now = self._now()
        return {
            place: max(0.0, (now - self._came[place]).total_seconds()) if place in self._came else 0.0
            for place in lag
        }

    def stuck(self) -> str | None:
        """Why it makes no progress, or None."""
        if self._since_s is None or time.monotonic() - self._since_s < _STUCK_S:
            return None
        return f"a batch has been in hand for {time.monotonic() - self._since_s:.0f} s"


async def main(settings: Settings, place: Place) -> None:
    """Follow the inboxes of `inbox.tenants` until SIGTERM."""
    from api.http.monitor import create_monitor
    from infra.kafka.gate import GatedEventLog
    from infra.kafka.inbox import KafkaInbox, ensure_inboxes
    from infra.kafka.lifecycle import LifecycleTail
    from infra.kafka.log import ensure_topics
    from infra.kafka.producer import KafkaEventLog
    from ingest.intake import Intake

    if not settings.inbox.tenants:
        raise SettingsError("inbox.tenants is empty, so there is no topic to read: name whose inboxes are")
    told = stopping()
    bootstrap = settings.kafka.bootstrap
    await ensure_topics(settings.kafka)
    made = await ensure_inboxes(settings.kafka, settings.inbox.tenants, partitions=settings.inbox.partitions)
    log.info("inboxes", tenants=settings.inbox.tenants, made=made)
    registry = CollectorRegistry()
    metrics = InboxMetrics(registry)
    watch_disk(place.data, registry)
    async with contextlib.AsyncExitStack() as entered:
        lifecycle = await entered.enter_async_context(LifecycleTail(bootstrap))
        to_log = await entered.enter_async_context(
            KafkaEventLog(
                bootstrap,
                deadline_s=settings.ingest.deadline_s,
                max_in_flight_bytes=settings.ingest.max_in_flight_bytes,
                client_id="ratchet-inbox-log",
            )
        )
        await lifecycle.wait_caught_up()
        intake = Intake(
            MeasuredLog(GatedEventLog(to_log, lifecycle), registry),
            settings.ingest,
            code_version=code_version(),
        )
        inbox = await entered.enter_async_context(
            KafkaInbox(bootstrap, settings.inbox.tenants, instance=settings.inbox.instance)
        )
        following = Following(
            inbox, InboxTaker(intake, now=now, pause=asyncio.sleep, observe=metrics.observe), now=now
        )

        def why_not_ready() -> str | None:
            return None if lifecycle.caught_up else "the lifecycle has not been read to its end"

        async def show_lag() -> None:
            while True:
                lag = inbox.lag()
                metrics.observe_lag(lag, following.ages_s(lag))
                await asyncio.sleep(_LOOK_S)

        async def follow_lifecycle() -> None:
            while True:
                await lifecycle.wait_changed(timeout_s=60.0)

        monitor = create_monitor(stuck=following.stuck, waiting=why_not_ready, registry=registry)
        running = asyncio.create_task(following.run(told), name="inbox")
        others = [
            asyncio.create_task(show_lag(), name="show-lag"),
            asyncio.create_task(follow_lifecycle(), name="follow-lifecycle"),
        ]
        for task in (running, *others):
            # one that ended by itself failed; a new process can do what this one no longer can
            task.add_done_callback(lambda _: told.set())
        address = settings.inbox_http
        await serve_until(monitor, address.host, address.port, told)
        # what is not committed when it is given up comes again
        await asyncio.wait([running], timeout=settings.ingest.deadline_s + _LOOK_S)
        for task in (running, *others):
            task.cancel()
        for outcome in await asyncio.gather(running, *others, return_exceptions=True):
            if isinstance(outcome, Exception):
                raise outcome


if __name__ == "__main__":
    run_process("inbox", main)
