"""More partitions for a topic of the log: what is asked of the broker. The order is `api/cli/topics.py`'s."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError

from infra.kafka.log import GroupProgress, Progress, describe_partitions
from schemas.errors import Retryable

#: A topic that nobody appends to keeps its ends for so long.
STILL_S: Final = 2.0
_POLL_S: Final = 0.1


class GrowthWatch:
    """Notices that a topic has more partitions than when it was first seen: who reads them starts anew."""

    def __init__(self, on_growth: Callable[[str], None]) -> None:
        """`on_growth` gets a sentence for the log, once a look."""
        self._on_growth = on_growth
        self._first: dict[str, int] = {}

    def look(self, progress: Progress) -> None:
        """Compare with the first look."""
        for topic, partitions in progress.items():
            first = self._first.setdefault(topic, len(partitions))
            if len(partitions) > first:
                self._on_growth(f"topic {topic!r} has {len(partitions)} partitions now, and had {first}")


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        yield admin
    except KafkaError as error:
        raise Retryable(f"asking Kafka at {bootstrap}: {error!r}") from error
    finally:
        await admin.close()


async def partition_counts(bootstrap: str) -> dict[str, int]:
    """Topic of ours → partitions that it has. Raises Retryable."""
    async with _admin(bootstrap) as admin:
        return await describe_partitions(admin)


async def wait_drained(
    bootstrap: str, group: str, topic: str, *, limit_s: float, tell: Callable[[int], None] = lambda _: None
) -> int:
    """Return once the group has committed all of the topic, and nothing has come for STILL_S; its records.

    `tell` gets the lag at every look. Raises Retryable after `limit_s`: a worker that does not run never
    drains anything, and a writer that passes by the doors never ends.
    """
    give_up_at = time.monotonic() + limit_s
    ends: dict[int, int] = {}
    still_since = time.monotonic()
    async with GroupProgress(bootstrap, group) as progress:
        while True:
            partitions = (await progress.read())[topic]
            lag = sum(max(0, one.end - one.committed) for one in partitions.values())
            tell(lag)
            at = time.monotonic()
            if (now := {number: one.end for number, one in partitions.items()}) != ends:
                ends, still_since = now, at
            if lag == 0 and at - still_since >= STILL_S:
                return sum(ends.values())
            if at > give_up_at:
                raise Retryable(
                    f"{lag} records of {topic} are not committed after {limit_s:.0f} s, or something still "
                    "appends to it: see `ratchet status`, then run the same command again"
                )
            await asyncio.sleep(_POLL_S)


async def raise_partitions(bootstrap: str, topic: str, partitions: int, *, limit_s: float = 30.0) -> None:
    """Give the topic so many partitions; return when the broker shows them. Idempotent. Raises Retryable."""
    give_up_at = time.monotonic() + limit_s
    async with _admin(bootstrap) as admin:
        if (await describe_partitions(admin)).get(topic, 0) < partitions:
            await admin.create_partitions({topic: NewPartitions(total_count=partitions)})
        while (await describe_partitions(admin)).get(topic, 0) < partitions:
            if time.monotonic() > give_up_at:
                raise Retryable(f"{topic} does not show {partitions} partitions after {limit_s:.0f} s")
            await asyncio.sleep(_POLL_S)
