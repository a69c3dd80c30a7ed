"""The load generator, a process of its own. Prints one line of JSON: `LoadReport`.

python -P -m tests.bench.load --url URL --key KEY --kind events --each 100 --connections 64 --requests 1000

All requests are made before the clock starts. Without --rate each connection sends its next request when the
last was answered. With --rate requests are due at fixed times, and latency counts from when one was due: a
server that stops for a while is charged for all who would have come.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec
import uvloop
from msgspec import Struct

from tests.bench.connection import Connection
from tests.bench.traffic import Late, event_requests, search_requests, serving_requests


class Latency(Struct, frozen=True):
    """Order statistics of latencies."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float


class LoadReport(Struct, frozen=True, kw_only=True):
    """What came of it."""

    requests: int
    events: int
    seconds: float
    requests_per_s: float
    events_per_s: float
    #: CPU of the generator while the clock ran.
    cpu_s: float
    statuses: dict[str, int]
    latency: Latency


def order_statistics(latencies_s: Sequence[float]) -> Latency:
    """Latencies, at least one, in ms: the smallest value that the share does not exceed."""
    ordered = sorted(latencies_s)

    def at(share: float) -> float:
        return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

    return Latency(at(0.5), at(0.9), at(0.99), round(1000 * ordered[-1], 3))


async def send(
    url: str, requests: Sequence[bytes], *, connections: int, rate_per_s: float, each: int
) -> LoadReport:
    """Send all requests and wait for all answers. Raises ConnectionError."""
    opened = [await Connection.open(url) for _ in range(connections)]
    statuses: Counter[str] = Counter()
    latencies: list[float] = []
    numbered: Iterator[tuple[int, bytes]] = iter(enumerate(requests))
    gc.collect()
    gc.disable()
    cpu, started = time.process_time(), time.perf_counter()

    async def work(connection: Connection) -> None:
        for number, request in numbered:
            sent = time.perf_counter()
            if rate_per_s:
                due = started + number / rate_per_s
                if due > sent:
                    await asyncio.sleep(due - sent)
                sent = due
            status, _ = await connection.exchange(request)
            latencies.append(time.perf_counter() - sent)
            statuses[str(status)] += 1

    await asyncio.gather(*(work(connection) for connection in opened))
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    for connection in opened:
        connection.close()
    return LoadReport(
        requests=len(requests),
        events=len(requests) * each,
        seconds=seconds,
        requests_per_s=len(requests) / seconds,
        events_per_s=len(requests) * each / seconds,
        cpu_s=cpu,
        statuses=dict(statuses),
        latency=order_statistics(latencies),
    )


def main() -> None:
    """Parse, make the requests, send them, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--url", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--kind", choices=("events", "serving", "search"), default="events")
    parser.add_argument("--each", type=int, default=1, help="events in a request")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int, required=True)
    parser.add_argument("--rate", type=float, default=0.0, help="requests per second; 0: as fast as answered")
    parser.add_argument("--ids", choices=("time", "random"), default="time", help="of queries and events")
    parser.add_argument(
        "--stored", type=int, default=0, help="queries of a filled store that get late feedback"
    )
    parser.add_argument(
        "--late-every", type=int, default=6, help="stories from one late feedback to the next"
    )
    options = parser.parse_args()
    if options.kind == "events":
        late = Late(options.late_every, options.stored) if options.stored else None
        requests = event_requests(options.url, options.key, options.requests, options.each, options.ids, late)
    else:
        make = serving_requests if options.kind == "serving" else search_requests
        requests = make(options.url, options.key, options.requests)
    report = uvloop.run(
        send(
            options.url,
            requests,
            connections=options.connections,
            rate_per_s=options.rate,
            each=options.each,
        )
    )
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")


if __name__ == "__main__":
    main()
