"""Fold and write by the worker: a log filled while it was stopped, until the last row is visible."""

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
from tests.bench.figures import Figure, Result
from tests.bench.load import LoadReport
from tests.bench.plain_consumer import Consumed
from tests.bench.stack import (
    TENANT,
    BenchError,
    InThread,
    Stack,
    command_text,
    cpu_seconds,
    run_program,
    running_stack,
    wait_for,
)

_EACH = 100
_LIMIT_S = 300.0
_POLL_S = 0.05


class Sizes(Struct, frozen=True):
    """How much is folded."""

    repetitions: int
    requests: int


FULL = Sizes(3, 600)
QUICK = Sizes(1, 30)


class Round(Struct, frozen=True):
    """One round: from the assignment of partitions to the last row."""

    events: int
    seconds: float
    #: From telling the supervisor to start the worker: its imports and its joining of the group, too.
    seconds_from_start: float
    worker_cpu_s: float


def measure(*, quick: bool) -> Result:
    """Fill the log through the API with the worker stopped, start it, look until all is there."""
    sizes = QUICK if quick else FULL
    rounds: list[Round] = []
    with running_stack("fold") as stack:
        for _ in range(sizes.repetitions):
            stack.stop("streams")
            rounds.append(_round(stack, sizes.requests))
        store = stack.clickhouse
        sketches = [
            run_program(
                "tests.bench.plain_consumer",
                *("--bootstrap", stack.bootstrap, "--store", store.url, "--user", store.user),
                *("--password", store.password, "--table", f"sketch.fold_{number}"),
                into=Consumed,
            )
            for number in range(sizes.repetitions)
        ]
    return Result(
        name="fold",
        figures=(
            Figure(
                name="fold and write, until the last row is visible",
                unit="events/s",
                target=4000,
                better="higher",
                values=tuple(one.events / one.seconds for one in rounds),
                sketch=tuple(one.events / one.seconds for one in sketches),
                sketch_is="aiokafka getmany, msgspec decode, one plain insert a batch; no fold, no commit",
            ),
        ),
        commands=(command_text("tests.bench.load", *_load("URL", "KEY", sizes.requests)),),
        cores_used={
            "worker": rounds[-1].worker_cpu_s / rounds[-1].seconds,
            "sketch": sketches[-1].cpu_s / sketches[-1].seconds,
        },
        details={"rounds": rounds, "sketches": sketches},
    )


def _load(url: str, key: str, requests: int) -> tuple[str, ...]:
    return (
        "--url",
        url,
        "--key",
        key,
        "--each",
        str(_EACH),
        "--connections",
        "16",
        "--requests",
        str(requests),
    )


def _round(stack: Stack, requests: int) -> Round:
    before = int(stack.sql("SELECT count() FROM ratchet.events"))
    sent = run_program("tests.bench.load", *_load(stack.api_url, stack.key, requests), into=LoadReport)
    if sent.statuses != {"202": requests}:
        raise BenchError(f"expected {requests} answers of 202, got {sent.statuses}")
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
    """The last event of every partition is in `events` and its query's row, written after it, has its click.

    The last event of a story is its click, and a story lies in one partition: so the last query of a
    partition is complete when its episode shows a click.
    """
    queries = ", ".join(f"'{event.subject}'" for event in last)
    events = ", ".join(f"'{event.id}'" for event in last)
    where = f"tenant = '{TENANT}' AND query_id IN ({queries})"
    seen = stack.sql(f"SELECT count() FROM ratchet.events WHERE {where} AND event_id IN ({events})")
    if int(seen) < len(last):
        return False
    clicked = f"SELECT countIf(has(feedback_kind, 'click')) FROM ratchet.episodes WHERE {where}"
    return int(stack.sql(clicked)) == len(last)
