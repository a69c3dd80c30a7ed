"""Bytes of an event in the log and in the store, and CPU for it. What docs/scale.md is computed from.

An event is one of a story of three: a question, its list of ten, a click. Tables are merged first, as time
does; so these are bytes at rest. While merges wait, and during one, a store needs up to twice as much.
"""

from __future__ import annotations

from msgspec import Struct

from api.cli.lag import read_lag
from api.cli.project import Project
from infra.clickhouse.connection import LIVE, open_client
from schemas.topics import TOPICS
from tests.bench.figures import Result
from tests.bench.load import LoadReport
from tests.bench.stack import (
    BenchError,
    Stack,
    command_text,
    cpu_seconds,
    run_program,
    running_stack,
    wait_for,
)

_LIMIT_S = 300.0


class Stored(Struct, frozen=True):
    """What one table holds."""

    rows: int
    bytes: int
    uncompressed_bytes: int
    bytes_an_event: float


def measure(*, quick: bool) -> Result:
    """Load, wait until all is committed, merge, look."""
    requests = 30 if quick else 1000
    with running_stack("sizes") as stack:
        before = _cpu(stack)
        load = ("--each", "100", "--connections", "16", "--requests", str(requests))
        sent = run_program(
            "tests.bench.load", "--url", stack.api_url, "--key", stack.key, *load, into=LoadReport
        )
        if sent.statuses != {"202": requests}:
            raise BenchError(f"expected {requests} answers of 202, got {sent.statuses}")
        settings = Project(stack.data.parent).settings
        wait_for("the last commit", lambda: read_lag(settings) == 0, _LIMIT_S, every_s=0.5)
        cpu = {name: seconds - before[name] for name, seconds in _cpu(stack).items()}
        log = {topic.name: _log_bytes(stack, topic.name) for topic in TOPICS}
        store = _stored(stack, sent.events)
    return Result(
        name="sizes",
        figures=(),
        commands=(command_text("tests.bench.load", "--url", "URL", "--key", "KEY", *load),),
        details={
            "events": sent.events,
            "cpu_us_an_event": {name: 1e6 * seconds / sent.events for name, seconds in cpu.items()},
            "log_bytes_an_event": log["interactions"] / sent.events,
            "log_bytes": log,
            "store_bytes_an_event": sum(one.bytes for one in store.values()) / sent.events,
            "store": store,
        },
    )


def _cpu(stack: Stack) -> dict[str, float]:
    """CPU so far by process; merges that are still to come are not in it."""
    return {name: cpu_seconds(pid) for name, pid in stack.pids().items() if name != "supervisor"}


def _log_bytes(stack: Stack, topic: str) -> int:
    """Of its segments, without indexes, which are allocated ahead."""
    return sum(path.stat().st_size for path in (stack.data / "kafka").glob(f"**/{topic}-[0-9]*/*.log"))


def _stored(stack: Stack, events: int) -> dict[str, Stored]:
    client = open_client(stack.clickhouse, timeout_s=600.0)
    try:
        tables = [str(name) for (name,) in client.query(f"SHOW TABLES FROM {LIVE.store}").result_rows]
        for table in tables:
            client.command(f"OPTIMIZE TABLE {LIVE.store}.{table} FINAL")
        rows = client.query(
            "SELECT table, sum(rows), sum(bytes_on_disk), sum(data_uncompressed_bytes) FROM system.parts "
            "WHERE active AND database = {database:String} GROUP BY table ORDER BY table",
            {"database": LIVE.store},
        ).result_rows
        return {
            str(table): Stored(int(count), int(size), int(plain), int(size) / events)
            for table, count, size, plain in rows
        }
    finally:
        client.close()
