"""Sends events at a steady rate and polls for some of them until they can be seen.

python -P -m tests.bench.probe --url URL --key KEY --store URL --user U --password P --rate 2000 --seconds 60

Prints one line of JSON: `Seen`. The clock of an event starts when its 202 came and ends when the answer to a
poll that contains it came; polls are 20 ms apart, and one asks for all that are waited for.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice

import msgspec
import uvloop
from msgspec import Struct

from tests.bench.connection import Connection, request_bytes
from tests.bench.load import Latency, order_statistics
from tests.bench.stack import TENANT
from tests.bench.traffic import BATCH, Sent, stories

_CONNECTIONS = 32
_POLL_S = 0.02
_GIVE_UP_S = 60.0


class Seen(Struct, frozen=True, kw_only=True):
    """How long accepted events took to be seen."""

    sent: int
    sampled: int
    events_per_s: float
    cpu_s: float
    polls: int
    delay: Latency


class Probe:
    """One run: what is waited for, and what was seen after how long."""

    def __init__(self, store: str, account: str, table: str) -> None:
        self._store = store
        self._authorization = "Basic " + base64.b64encode(account.encode()).decode()
        self._table = table
        #: Event id → (query id, when it was accepted).
        self._waiting: dict[str, tuple[str, float]] = {}
        self._sending = True
        self.delays_s: list[float] = []
        self.polls = 0

    async def send(
        self, url: str, key: str, events: Sequence[Sent], *, rate_per_s: float, each: int, every: int
    ) -> float:
        """Send all, `each` a request, each request at its time; wait for every `every`th event.

        Returns the seconds that it took.
        """
        groups = [events[start : start + each] for start in range(0, len(events), each)]
        requests = [
            request_bytes(
                "POST",
                f"{url}/v1/events",
                f"Bearer {key}",
                b"[" + b",".join(event.body for event in group) + b"]",
                BATCH,
            )
            for group in groups
        ]
        numbers: Iterator[int] = iter(range(len(requests)))
        started = time.perf_counter()

        async def work(connection: Connection) -> None:
            for number in numbers:
                await asyncio.sleep(started + number * each / rate_per_s - time.perf_counter())
                status, body = await connection.exchange(requests[number])
                if status != 202:
                    raise ConnectionError(f"expected 202, got {status}: {body[:500]!r}")
                accepted = time.perf_counter()
                for place in range(number * each, number * each + len(groups[number])):
                    if place % every == 0:
                        event = events[place]
                        self._waiting[event.event_id] = (event.query_id, accepted)

        await asyncio.gather(*[work(await Connection.open(url)) for _ in range(_CONNECTIONS)])
        self._sending = False
        return time.perf_counter() - started

    async def poll(self) -> None:
        """Look every 20 ms until nothing is sent or waited for. Raises TimeoutError."""
        connection = await Connection.open(self._store)
        while self._sending or self._waiting:
            started = time.perf_counter()
            if self._waiting:
                await self._look(connection)
            await asyncio.sleep(started + _POLL_S - time.perf_counter())

    async def _look(self, connection: Connection) -> None:
        asked = dict(self._waiting)
        queries = ", ".join(f"'{query_id}'" for query_id in {query_id for query_id, _ in asked.values()})
        events = ", ".join(f"'{event_id}'" for event_id in asked)
        statement = (
            f"SELECT event_id FROM {self._table} WHERE tenant = '{TENANT}' "
            f"AND query_id IN ({queries}) AND event_id IN ({events}) FORMAT TabSeparated"
        )
        request = request_bytes("POST", self._store, self._authorization, statement.encode(), "text/plain")
        status, body = await connection.exchange(request)
        if status != 200:
            raise ConnectionError(f"expected 200 from the store, got {status}: {body[:500]!r}")
        self.polls += 1
        now = time.perf_counter()
        for event_id in set(body.decode().split()):
            _, accepted = self._waiting.pop(event_id)
            self.delays_s.append(now - accepted)
        if asked and now - min(accepted for _, accepted in asked.values()) > _GIVE_UP_S:
            raise TimeoutError(f"an accepted event was not seen within {_GIVE_UP_S:g} s")


async def run(options: argparse.Namespace) -> Seen:
    """Send and poll at once."""
    events = list(islice(stories(), int(options.rate * options.seconds)))
    probe = Probe(options.store, f"{options.user}:{options.password}", options.table)
    cpu = time.process_time()
    seconds, _ = await asyncio.gather(
        probe.send(
            options.url,
            options.key,
            events,
            rate_per_s=options.rate,
            each=options.each,
            every=options.every,
        ),
        probe.poll(),
    )
    return Seen(
        sent=len(events),
        sampled=len(probe.delays_s),
        events_per_s=len(events) / seconds,
        cpu_s=time.process_time() - cpu,
        polls=probe.polls,
        delay=order_statistics(probe.delays_s),
    )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser()
    for name in ("--url", "--key", "--store", "--user", "--password"):
        parser.add_argument(name, required=True)
    parser.add_argument("--table", default="ratchet.events")
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--each", type=int, default=10, help="events in a request")
    parser.add_argument("--every", type=int, default=100, help="wait for every nth event")
    seen = uvloop.run(run(parser.parse_args()))
    sys.stdout.buffer.write(msgspec.json.encode(seen) + b"\n")


if __name__ == "__main__":
    main()
