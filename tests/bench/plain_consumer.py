"""The sketch beside the stream worker: `getmany`, msgspec, one plain insert a batch; no fold, no commit.

python -P -m tests.bench.plain_consumer --bootstrap HOST:PORT --store URL --user U --password P --table T

Without --follow it reads `interactions` from its beginning to its present end and prints `Consumed` as JSON;
with --follow it says `ready`, reads what comes from now on and goes on until SIGTERM.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition
from clickhouse_connect.driver.client import Client
from msgspec import Struct

from api.processes.boot import stopping
from infra.clickhouse.connection import open_client
from infra.settings import ClickHouseSettings
from schemas.envelope import Event
from schemas.topics import INTERACTIONS, TOPICS

_COLUMNS = ("tenant", "query_id", "source", "event_id", "type", "data")


class Consumed(Struct, frozen=True):
    """How much, in what time, with how much CPU of its own."""

    events: int
    seconds: float
    cpu_s: float


def make_table(client: Client, table: str) -> None:
    """A table of its own for the sketch."""
    database = table.partition(".")[0]
    client.command(f"CREATE DATABASE IF NOT EXISTS {database} ENGINE = Atomic")
    columns = ", ".join(f"{name} String" for name in _COLUMNS)
    client.command(
        f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY (tenant, query_id, source, event_id) "
        "SETTINGS index_granularity = 512"
    )


async def consume(bootstrap: str, client: Client, table: str, *, follow: bool) -> Consumed:
    """Read, decode, insert."""
    told = stopping()
    decode = msgspec.json.Decoder(Event).decode
    (declared,) = (topic for topic in TOPICS if topic.name == INTERACTIONS)
    partitions = [TopicPartition(INTERACTIONS, number) for number in range(declared.partitions)]
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100)
    await consumer.start()
    consumer.assign(partitions)
    ends = await consumer.end_offsets(partitions)
    for partition, end in ends.items():
        consumer.seek(partition, end if follow else 0)
    wanted = sum(ends.values())
    if follow:
        print("ready", flush=True)
    events = 0
    started, cpu = time.perf_counter(), time.process_time()
    while not told.is_set() and (follow or events < wanted):
        fetched = await consumer.getmany(timeout_ms=200, max_records=1000)
        batch = [decode(record.value) for records in fetched.values() for record in records]
        if batch:
            columns = [
                [event.tenant for event in batch],
                [event.subject or "" for event in batch],
                [event.source for event in batch],
                [event.id for event in batch],
                [event.type for event in batch],
                [bytes(event.data).decode() for event in batch],
            ]
            await asyncio.to_thread(
                client.insert,
                table,
                columns,
                column_names=_COLUMNS,
                column_type_names=["String"] * len(_COLUMNS),
                column_oriented=True,
            )
            events += len(batch)
    taken = Consumed(events, time.perf_counter() - started, time.process_time() - cpu)
    await consumer.stop()
    return taken


def main() -> None:
    """Parse, consume, print."""
    parser = argparse.ArgumentParser()
    for name in ("--bootstrap", "--store", "--user", "--password", "--table"):
        parser.add_argument(name, required=True)
    parser.add_argument("--follow", action="store_true")
    options = parser.parse_args()
    client = open_client(ClickHouseSettings(url=options.store, user=options.user, password=options.password))
    make_table(client, options.table)
    taken = uvloop.run(consume(options.bootstrap, client, options.table, follow=options.follow))
    if not options.follow:
        sys.stdout.buffer.write(msgspec.json.encode(taken) + b"\n")


if __name__ == "__main__":
    main()
