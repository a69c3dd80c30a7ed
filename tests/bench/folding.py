"""A round of folding: the log is filled while the worker is stopped; then until its last row is visible."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from msgspec import Struct

from schemas.envelope import Event
from schemas.topics import INTERACTIONS, TOPICS
from tests.bench.load import LoadReport
from tests.bench.stack import (
    TENANT,
    BenchError,
    InThread,
    Stack,
    cpu_seconds,
    run_program,
    wait_for,
)
from tests.bench.traffic import Ids

_EACH = 100
_LIMIT_S = 300.0
_POLL_S = 0.05


class Round(Struct, frozen=True):
    """One round: from the assignment of partitions to the last row."""

    events: int
    seconds: float
    #: From telling the supervisor to start the worker: its imports and its joining of the group, too.
    seconds_from_start: float
    worker_cpu_s: float


class Load(Struct, frozen=True):
    """What a round folds: requests of 100 events, their ids, and late feedback for `stored` queries."""

    requests: int
    ids: Ids = "time"
    stored: int = 0

    def arguments(self, url: str, key: str) -> tuple[str, ...]:
        """Of `tests.bench.load`."""
        return (
            *("--url", url, "--key", key, "--each", str(_EACH), "--connections", "16"),
            *("--requests", str(self.requests), "--ids", self.ids, "--stored", str(self.stored)),
        )


def fold_round(stack: Stack, load: Load) -> Round:
    """Stop the worker, fill, start it, look until all is there. Raises BenchError."""
    stack.stop("streams")
    before = int(stack.sql("SELECT count() FROM ratchet.events"))
    sent = run_program("tests.bench.load", *load.arguments(stack.api_url, stack.key), into=LoadReport)
    if sent.statuses != {"202": load.requests}:
        raise BenchError(f"expected {load.requests} answers of 202, got {sent.statuses}")
    last = asyncio.run(_last_records(stack.bootstrap))
    told = time.perf_counter()
    starting = InThread(lambda: stack.start("streams"))
    began = wait_for("the worker's start", lambda: _ready(stack), _LIMIT_S, every_s=0.01)
    pid = stack.pids()["streams"]
    cpu = cpu_seconds(pid)
    ended = wait_for(
        "the last row of every partition", lambda: _visible(stack, last), _LIMIT_S, every_s=_POLL_S
    )
    cpu = cpu_seconds(pid) - cpu
    starting.done()
    stored = int(stack.sql("SELECT count() FROM ratchet.events")) - before
    if stored != sent.events:
        raise BenchError(f"expected {sent.events} new events in ratchet.events, got {stored}")
    return Round(sent.events, ended - began, ended - told, cpu)


def _ready(stack: Stack) -> bool:
    """The worker says so as soon as a partition is assigned to it, and reads from then on."""
    with suppress(httpx.TransportError):
        return httpx.get(f"{stack.streams_url}/readyz", timeout=1.0).status_code == 200
    return False


async def _last_records(bootstrap: str) -> list[Event]:
    """The last record of every partition that has one: a partition is written in its order."""
    (declared,) = (topic for topic in TOPICS if topic.name == INTERACTIONS)
    partitions = [TopicPartition(INTERACTIONS, number) for number in range(declared.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        ends = await consumer.end_offsets(partitions)
        wanted = {partition: end - 1 for partition, end in ends.items() if end}
        consumer.assign(list(wanted))
        for partition, offset in wanted.items():
            consumer.seek(partition, offset)
        found: dict[TopicPartition, Event] = {}
        while len(found) < len(wanted):
            for partition, records in (await consumer.getmany(timeout_ms=1000)).items():
                found[partition] = msgspec.json.decode(records[-1].value, type=Event)
        return list(found.values())
    finally:
        await consumer.stop()


def _visible(stack: Stack, last: list[Event]) -> bool:
    """The last event of every partition is in `events`, and its query's row, written after it, counts it."""
    queries = ", ".join(f"'{event.subject}'" for event in last)
    events = ", ".join(f"'{event.id}'" for event in last)
    where = f"tenant = '{TENANT}' AND query_id IN ({queries})"
    seen = stack.sql(f"SELECT count() FROM ratchet.events WHERE {where} AND event_id IN ({events})")
    if int(seen) < len(last):
        return False
    counted = (
        "SELECT count() FROM "
        f"(SELECT query_id, count() AS stored FROM ratchet.events WHERE {where} GROUP BY query_id) AS e "
        f"INNER JOIN (SELECT query_id, record_count FROM ratchet.episodes WHERE {where}) AS p "
        "ON e.query_id = p.query_id WHERE e.stored = p.record_count"
    )
    return int(stack.sql(counted)) == len({event.subject for event in last})
