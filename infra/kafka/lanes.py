"""A partition's lane: what many appends hand over while one batch is under way goes out as the next.

aiokafka's `send` makes a future for every record, which costs more than encoding the record. Here a batch has
one future, and an append waits for the few batches that hold its records. Nothing is slower for it: an
idempotent producer has one batch of a partition under way at a time, whoever fills it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from aiokafka import AIOKafkaProducer, TopicPartition


class Packed(NamedTuple):
    """A record as Kafka gets it."""

    key: bytes
    value: bytes
    #: Milliseconds since 1970.
    timestamp_ms: int


class Handed:
    """The records of one append in one partition. They share their fate: one result for all of them.

    `error`: why Kafka has not taken them; None while they are under way and once they are durable.
    """

    __slots__ = ("_whose", "done", "error", "left")

    def __init__(self, whose: Handover) -> None:
        self._whose = whose
        self.left = 0  # batches that hold some of them and are not answered
        self.done = False
        self.error: BaseException | None = None

    def answer(self, error: BaseException | None) -> None:
        """One of its batches was answered."""
        self.left -= 1
        self.error = self.error or error
        if not self.left:
            self.done = True
            self._whose.answered()


class Handover:
    """All that one append handed over.

    `on_answered` is called once, when nothing is under way any more, even if nobody waits by then.
    """

    def __init__(self, on_answered: Callable[[Handover], None]) -> None:
        self._on_answered = on_answered
        self._open = 0
        self._waiter: asyncio.Future[None] | None = None

    def begin(self) -> Handed:
        """Another partition of it."""
        self._open += 1
        return Handed(self)

    def answered(self) -> None:
        """One of its partitions was answered for."""
        self._open -= 1
        if not self._open:
            self._on_answered(self)
            self._wake()

    async def wait(self, timeout_s: float) -> None:
        """Return when all is answered, or after `timeout_s`. For one caller at a time."""
        if not self._open:
            return
        # asyncio.timeout would cost as much as all else that an append of one record does
        loop = asyncio.get_running_loop()
        self._waiter = loop.create_future()
        timer = loop.call_later(timeout_s, self._wake)
        try:
            await self._waiter
        finally:
            timer.cancel()
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Lane:
    """The way into one partition. Records go out in the order in which they were handed over.

    It puts batches into the producer's accumulator as `send_batch` does, but without a task and a coroutine
    for each: at one record a batch these would cost as much as all else.
    """

    def __init__(self, producer: AIOKafkaProducer, topic: str, partition: int) -> None:
        self._producer = producer
        self._accumulator: Any = producer._message_accumulator
        self._place = TopicPartition(topic, partition)
        #: Those whose records are in the batch that the accumulator has; None while it has none.
        self._under_way: list[Handed] | None = None
        self._builder: Any = None
        #: Batches that wait for their turn, the last one open; each with those whose records are in it.
        self._waiting: deque[tuple[Any, list[Handed]]] = deque()

    def add(self, records: Sequence[Packed], handed: Handed) -> None:
        """Queue records, at least one; `handed` is answered when Kafka has answered for all of them."""
        builder, owners = self._open_batch()
        owners.append(handed)
        handed.left += 1
        for key, value, timestamp_ms in records:
            if builder.append(timestamp=timestamp_ms, key=key, value=value) is None:  # full
                builder, owners = self._new_batch()
                owners.append(handed)
                handed.left += 1
                builder.append(timestamp=timestamp_ms, key=key, value=value)
        if self._under_way is None:
            self._send_next()

    def _open_batch(self) -> tuple[Any, list[Handed]]:
        """A batch that still takes records: the last one."""
        if self._waiting:
            return self._waiting[-1]
        if self._under_way is not None and self._accumulator._batches.get(self._place):
            return self._builder, self._under_way  # the sender has not taken it yet
        return self._new_batch()

    def _new_batch(self) -> tuple[Any, list[Handed]]:
        opened: tuple[Any, list[Handed]] = (self._producer.create_batch(), [])
        self._waiting.append(opened)
        return opened

    def _send_next(self) -> None:
        """Hand the next batch to the sender, if one waits."""
        while self._waiting:
            self._builder, owners = self._waiting.popleft()
            if (closed := self._accumulator._exception) is None:
                self._under_way = owners
                batch = self._accumulator._append_batch(self._builder, self._place)
                batch.future.add_done_callback(self._answered)
                return
            _answer(owners, closed)

    def _answered(self, future: asyncio.Future[object]) -> None:
        owners, self._under_way, self._builder = self._under_way, None, None
        error = asyncio.CancelledError() if future.cancelled() else future.exception()
        self._send_next()
        _answer(owners or [], error)


def _answer(owners: Sequence[Handed], error: BaseException | None) -> None:
    for handed in owners:
        handed.answer(error)
