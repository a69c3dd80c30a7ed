"""Sends requests over kept connections and remembers what was acknowledged; may kill meanwhile."""

from __future__ import annotations

import asyncio
import gc
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import uvloop
from msgspec import Struct

from tests.bench.connection import Connection
from tests.bench.load import Latency, order_statistics
from tests.bench.peers.system import Request
from tests.bench.stack import BenchError

_LIMIT_S = 600.0


class Sent(Struct, frozen=True, kw_only=True):
    """One run. `seconds`: until the last answer, or until the kill."""

    acknowledged: tuple[str, ...]
    seconds: float
    #: Answers that acknowledged nothing, by status.
    refused: dict[str, int]
    #: Requests whose connection ended before an answer came.
    unanswered: int
    latency: Latency
    #: CPU of the generator.
    cpu_s: float

    @property
    def acknowledged_per_s(self) -> float:
        """Pieces of feedback that were acknowledged, a second."""
        return len(self.acknowledged) / self.seconds


class Kill(Struct, frozen=True):
    """Call this as soon as so many requests were acknowledged."""

    after: int
    kill: Callable[[], None]


def send(
    url: str,
    requests: Sequence[Request],
    *,
    connections: int,
    acknowledges: Callable[[int, bytes], bool],
    kill: Kill | None = None,
) -> Sent:
    """Send them all, each connection its next when the last was answered, until the end or the kill.

    An answer that was on its way when the system was killed counts: the application has it. A connection
    that the server closes by itself is opened again, and its request is not sent a second time. Raises
    BenchError if nobody listens any more, or all takes more than ten minutes.
    """
    return uvloop.run(_send(url, requests, connections, acknowledges, kill))


async def _send(
    url: str,
    requests: Sequence[Request],
    connections: int,
    acknowledges: Callable[[int, bytes], bool],
    kill: Kill | None,
) -> Sent:
    opened = [await Connection.open(url) for _ in range(min(connections, len(requests)))]
    remaining: Iterator[Request] = iter(requests)
    acknowledged: list[Request] = []
    refused: Counter[str] = Counter()
    latencies_s: list[float] = []
    unanswered = 0
    killed_at: float | None = None
    gc.collect()
    gc.disable()
    cpu, started = time.process_time(), time.perf_counter()

    def was_killed() -> bool:
        return killed_at is not None

    async def work(connection: Connection) -> None:
        nonlocal unanswered, killed_at
        for request in remaining:
            sent = time.perf_counter()
            try:
                status, body = await connection.exchange(request.wire)
            except ConnectionError:
                unanswered += 1
                if was_killed():
                    return
                try:
                    connection = await Connection.open(url)
                except OSError as error:
                    if was_killed():  # by another connection, while this one was being opened
                        return
                    text = f"{url} closed a connection and takes no new one: {error}"
                    raise BenchError(text) from error
                continue
            latencies_s.append(time.perf_counter() - sent)
            if not acknowledges(status, body):
                refused[str(status)] += 1
                continue
            acknowledged.append(request)
            if kill is not None and killed_at is None and len(acknowledged) >= kill.after:
                killed_at = time.perf_counter()
                kill.kill()
            if killed_at is not None:
                break
        connection.close()

    try:
        async with asyncio.timeout(_LIMIT_S):
            await asyncio.gather(*(work(connection) for connection in opened))
    except TimeoutError as error:
        raise BenchError(f"{url} did not answer {len(requests)} requests within {_LIMIT_S:g} s") from error
    finally:
        gc.enable()
    ended = time.perf_counter()
    if kill is not None and killed_at is None:
        raise BenchError(f"{url} acknowledged {len(acknowledged)} requests, too few to be killed: {refused}")
    return Sent(
        acknowledged=tuple(id for request in acknowledged for id in request.ids),
        seconds=(killed_at or ended) - started,
        refused=dict(refused),
        unanswered=unanswered,
        latency=order_statistics(latencies_s),
        cpu_s=time.process_time() - cpu,
    )
