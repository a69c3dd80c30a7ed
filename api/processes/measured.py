"""The ports of a process, counted: what went to the log, what was looked up, what was written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from prometheus_client import CollectorRegistry

from api.http.metrics import make_metric
from ingest.ports import Appended, EventLog
from schemas import telemetry
from schemas.envelope import Event
from schemas.registry import BY_NAME
from streams.ports import Block, QueryKey, RecordLookup, RowSink, Table

#: Below this age a reading of the disk is used again: several gauges are read at one scrape.
_DISK_FRESH_S: Final = 1.0


class MeasuredLog:
    """An `EventLog` whose appends are counted by topic, and timed."""

    def __init__(self, log: EventLog, registry: CollectorRegistry) -> None:
        self._log = log
        self._records = make_metric(telemetry.LOG_RECORDS, registry)
        self._bytes = make_metric(telemetry.LOG_BYTES, registry)
        self._seconds = make_metric(telemetry.LOG_CONFIRM_SECONDS, registry)
        #: (event type, confirmed) → its counters of records and of bytes
        self._counters: dict[tuple[str, bool], tuple[Any, Any]] = {}

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        """As the log's; raises what it raises. What was not tried is not counted."""
        started = time.perf_counter()
        results = await self._log.append(events)
        self._seconds.observe(time.perf_counter() - started)
        counted: dict[tuple[str, bool], tuple[int, int]] = {}
        for event, result in zip(events, results, strict=True):
            kind = (event.type, result.confirmed)
            number, size_bytes = counted.get(kind, (0, 0))
            counted[kind] = (number + 1, size_bytes + len(event.data))
        for kind, (number, size_bytes) in counted.items():
            records, data = self._counters.get(kind) or self._make_counters(kind)
            records.inc(number)
            data.inc(size_bytes)
        return results

    def _make_counters(self, kind: tuple[str, bool]) -> tuple[Any, Any]:
        topic = BY_NAME[kind[0]].topic
        status = "confirmed" if kind[1] else "unconfirmed"
        made = self._records.labels(topic, status), self._bytes.labels(topic)
        self._counters[kind] = made
        return made


class MeasuredSink:
    """A `RowSink` whose inserts are counted by table."""

    def __init__(self, sink: RowSink, registry: CollectorRegistry) -> None:
        self._sink = sink
        self._rows = make_metric(telemetry.STREAM_ROWS, registry)
        self._bytes = make_metric(telemetry.STREAM_ROW_BYTES, registry)

    def prepare(self, table: Table, columns: Mapping[str, Any]) -> Block:
        """As the sink's."""
        return self._sink.prepare(table, columns)

    async def insert(self, block: Block) -> None:
        """As the sink's; counted once it is stored."""
        await self._sink.insert(block)
        self._rows.labels(block.table).inc(block.rows)
        if isinstance(block.payload, bytes | bytearray | memoryview):
            self._bytes.labels(block.table).inc(len(block.payload))


class MeasuredLookup:
    """A `RecordLookup` that counts the queries of which something was stored."""

    def __init__(self, lookup: RecordLookup, registry: CollectorRegistry) -> None:
        self._lookup = lookup
        self._found = make_metric(telemetry.STREAM_LOOKUPS_FOUND, registry)

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        """As the look-up's."""
        found = await self._lookup.records_of(queries)
        self._found.inc(len(found))
        return found

    async def lifecycle_before(self, tenant: str, partition: int, offset: int) -> list[bytes]:
        """As the look-up's."""
        return await self._lookup.lifecycle_before(tenant, partition, offset)


def watch_disk(directory: Path, registry: CollectorRegistry) -> None:
    """Show size and free space of the file system of `directory` (absolute), read when somebody scrapes."""
    read_at_s, read = 0.0, (0, 0)

    def usage() -> tuple[int, int]:
        nonlocal read_at_s, read
        if time.monotonic() - read_at_s > _DISK_FRESH_S:
            # a process that has written nothing yet has no directory
            there = next(path for path in (directory, *directory.parents) if path.exists())
            found = shutil.disk_usage(there)
            read_at_s, read = time.monotonic(), (found.total, found.free)
        return read

    make_metric(telemetry.DISK_SIZE, registry).set_function(lambda: usage()[0])
    make_metric(telemetry.DISK_FREE, registry).set_function(lambda: usage()[1])
