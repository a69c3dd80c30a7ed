"""A topic followed from its beginning, every partition, by one task: a small topic kept in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.errors import Fatal, Retryable

log = logging.getLogger(__name__)

#: Called with partition, offset and value of each record, in the order of each partition.
Handler = Callable[[int, int, bytes], None]


class TopicTail:
    """Reads every record of a topic, then those that come, and hands each to `handle` once.

    Guarantees: order within a partition; `position` is advanced after `handle` returned. All methods are for
    the loop that entered it. If reading ends with an error, `failure` holds it and waiting raises Fatal: a
    process that no longer follows must not answer from what it knew.
    """

    def __init__(self, bootstrap: str, topic: str, handle: Handler) -> None:
        # No group: every partition is assigned to this consumer, and nothing is committed.
        self._consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self._bootstrap = bootstrap
        self._topic = topic
        self._handle = handle
        self._position: dict[int, int] = {}
        self._end_at_start: dict[int, int] = {}
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._consumer.start()
            partitions = sorted(self._consumer.assignment())
            if not partitions:
                raise Retryable(f"topic {self._topic!r} does not exist yet; create the topics first")
            await self._consumer.seek_to_beginning(*partitions)
            ends = await self._consumer.end_offsets(partitions)
            self._end_at_start = {tp.partition: end for tp, end in ends.items()}
            for tp in partitions:
                self._position[tp.partition] = await self._consumer.position(tp)
        except KafkaError as error:
            await self._consumer.stop()
            raise Retryable(f"no Kafka broker answers at {self._bootstrap}: {error!r}") from error
        except BaseException:
            await self._consumer.stop()
            raise
        self._task = asyncio.create_task(self._follow(), name=f"tail-{self._topic}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def _follow(self) -> None:
        try:
            while True:
                fetched = await self._consumer.getmany(timeout_ms=500)
                if not fetched:
                    continue
                async with self._changed:
                    for tp, records in fetched.items():
                        for record in records:
                            self._handle(tp.partition, record.offset, record.value or b"")
                            self._position[tp.partition] = record.offset + 1
                    self._changed.notify_all()
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failure = error
            log.exception("topic %s can no longer be followed", self._topic)
            async with self._changed:
                self._changed.notify_all()

    @property
    def position(self) -> dict[int, int]:
        """Next offset to read, by partition."""
        return dict(self._position)

    @property
    def caught_up(self) -> bool:
        """Everything that was in the log at start has been read."""
        return self.failure is None and all(
            self._position.get(p, 0) >= n for p, n in self._end_at_start.items()
        )

    async def wait_caught_up(self) -> None:
        """Return once all that was in the log at start is read. Raises Fatal if reading ended."""
        await self._wait_for(self._end_at_start)

    async def read_to_end(self) -> None:
        """Return once all that is in the log now is read. Raises Fatal if reading ended, Retryable."""
        try:
            ends = await self._consumer.end_offsets([TopicPartition(self._topic, p) for p in self._position])
        except KafkaError as error:
            raise Retryable(f"asking for the end of {self._topic}: {error!r}") from error
        await self._wait_for({tp.partition: end for tp, end in ends.items()})

    async def wait_changed(self, timeout_s: float) -> None:
        """Return after the next records, or after `timeout_s`. Raises Fatal if reading ended."""
        async with self._changed:
            self._check()
            await _wait(self._changed, timeout_s)
            self._check()

    async def _wait_for(self, ends: dict[int, int]) -> None:
        async with self._changed:
            while True:
                self._check()
                if all(self._position.get(partition, 0) >= end for partition, end in ends.items()):
                    return
                await _wait(self._changed, 0.5)

    def _check(self) -> None:
        if self.failure is not None:
            raise Fatal(
                f"topic {self._topic!r} can no longer be followed: {self.failure!r}"
            ) from self.failure


async def _wait(condition: asyncio.Condition, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await condition.wait()
    except TimeoutError:
        pass
