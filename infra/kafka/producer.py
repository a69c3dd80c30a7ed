"""The append side of the log on Kafka: idempotent, `acks=all`, with a deadline and a cap of our own.

An idempotent aiokafka producer never gives a batch up: while the broker is away it keeps what it has and
goes on trying. So an append that is late is answered as unconfirmed and may still be written, and the cap
counts bytes until Kafka has answered for them, not until the caller went away.
"""

from __future__ import annotations

import asyncio
import functools
import struct
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    OutOfOrderSequenceNumber,
    ProducerClosed,
    ProducerFenced,
    UnknownProducerId,
)

from ingest.ports import CONFIRMED, Appended
from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.errors import Fatal, Retryable
from schemas.registry import BY_NAME
from schemas.topics import TOPICS, record_key

#: What the broker says of a batch whose sequence number is not the next. aiokafka takes the number when it
#: first sends a batch and does not give it back when the batch fails for good (refused, or its partition had
#: no leader for too long): from then on the partition refuses every batch of this producer.
LOST_COUNT: Final = (OutOfOrderSequenceNumber, ProducerFenced, UnknownProducerId)
_LATE: Final = Appended(False, "the log did not confirm it before the deadline")
_MASK: Final = 0xFFFFFFFF
_SEED: Final = 0x9747B28C
_M: Final = 0x5BD1E995


@functools.lru_cache(maxsize=16_384)
def partition_hash(key: bytes) -> int:
    """Kafka's default key hash: murmur2, 31 bits; modulo the number of partitions it is the partition.

    Twice as fast as aiokafka's, and events of one query repeat their key: hence the cache.
    """
    length = len(key)
    words = length // 4
    h = _SEED ^ length
    for k in struct.unpack_from(f"<{words}I", key):
        k = k * _M & _MASK  # noqa: PLW2901
        h = (h * _M ^ (k ^ k >> 24) * _M) & _MASK
    tail = key[words * 4 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    return (h ^ h >> 15) & 0x7FFFFFFF


class _Pending:
    """The futures of one append that Kafka has not answered, and their bytes."""

    __slots__ = ("all_done", "left", "log", "size_bytes")

    def __init__(self, log: KafkaEventLog, size_bytes: int) -> None:
        self.log = log
        self.size_bytes = size_bytes
        self.left = 1  # one for the caller, until it has handed everything over
        self.all_done = asyncio.Event()

    def watch(self, future: asyncio.Future[object]) -> None:
        self.left += 1
        future.add_done_callback(self.release)

    def release(self, future: asyncio.Future[object] | None = None) -> None:
        if future is not None and not future.cancelled():
            future.exception()  # asked for, so that asyncio does not log a failure nobody waits for any more
        self.left -= 1
        if not self.left:
            self.log.in_flight_bytes -= self.size_bytes
            self.all_done.set()


class KafkaEventLog:
    """`EventLog` over one aiokafka producer; an async context manager, bound to the loop that entered it.

    Guarantees: as the port says. Records of one key stay in the order of appending. The record's timestamp
    is the received time.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        deadline_s: float = 10.0,
        max_in_flight_bytes: int = 64 * 1024 * 1024,
        client_id: str = "ratchet-ingest",
    ) -> None:
        self._deadline_s = deadline_s
        self._max_in_flight_bytes = max_in_flight_bytes
        #: Bytes handed over and not yet answered for.
        self.in_flight_bytes = 0
        self._settings = {
            "bootstrap_servers": bootstrap,
            "client_id": client_id,
            "acks": "all",
            "enable_idempotence": True,
            # A batch that is full makes senders wait for its turn: half of the broker's limit.
            "max_batch_size": 512 * 1024,
            "max_request_size": 1024 * 1024,
            "request_timeout_ms": 30_000,
        }
        self._producer: AIOKafkaProducer | None = None
        #: Topic → number of partitions, read once: a count that grows would move keys.
        self._partitions: dict[str, int] = {}

    async def __aenter__(self) -> Self:
        """Connects. Raises Retryable if no broker answers, Fatal if a topic of ours does not exist."""
        producer = AIOKafkaProducer(**self._settings)
        try:
            await producer.start()
        except KafkaError as error:
            await producer.stop()
            raise Retryable(
                f"no Kafka broker answers at {self._settings['bootstrap_servers']}: {error}"
            ) from error
        try:
            for topic in TOPICS:
                self._partitions[topic.name] = len(await producer.partitions_for(topic.name))
        except KafkaError as error:
            await producer.stop()
            raise Fatal(f"a topic of ours is not there; create the topics first: {error}") from error
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sends what is left, for as long as the deadline allows."""
        if self._producer is not None:
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._producer.stop()
            except TimeoutError:
                await self._abandon(self._producer)
            self._producer = None

    @staticmethod
    async def _abandon(producer: AIOKafkaProducer) -> None:
        """End the producer's tasks without waiting for a broker that does not answer."""
        producer._message_accumulator.fail_all(ProducerClosed())
        task = producer._sender.sender_task
        while not task.done():
            # Cancelled once, it waits for its requests; cancelled again, it cancels the request it waits for.
            task.cancel()
            await asyncio.wait([task], timeout=0.05)
        await producer.client.close()

    def _alive(self) -> AIOKafkaProducer:
        producer = self._producer
        if producer is None:
            raise Fatal("the log was not opened: enter it with `async with` first")
        task = producer._sender.sender_task
        if task is not None and task.done():
            raise Fatal("the Kafka sender died and confirms nothing any more; the process must start again")
        return producer

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        """See the port. An append of no events confirms nothing and asks nobody."""
        producer = self._alive()
        records = [
            (BY_NAME[e.type].topic, encode_event(e), record_key(e.tenant, e.subject), e.recordedtime)
            for e in events
        ]
        size_bytes = sum(len(value) + len(key) for _, value, key, _ in records)
        if self.in_flight_bytes + size_bytes > self._max_in_flight_bytes:
            raise Retryable(
                f"{self.in_flight_bytes} bytes wait for the log, {size_bytes} more would pass the cap of "
                f"{self._max_in_flight_bytes}; send again later",
                retry_after_s=min(self._deadline_s, 5.0),
            )
        self.in_flight_bytes += size_bytes
        pending = _Pending(self, size_bytes)
        futures: list[asyncio.Future[object] | Appended] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                try:
                    for topic, value, key, received in records:
                        try:
                            future = await producer.send(
                                topic,
                                value,
                                key,
                                partition=partition_hash(key) % self._partitions[topic],
                                timestamp_ms=int(received.timestamp() * 1000),
                            )
                        except KafkaError as error:
                            futures.append(Appended(False, repr(error)))
                        else:
                            futures.append(future)
                            pending.watch(future)
                finally:
                    pending.release()
                await pending.all_done.wait()
        except TimeoutError:
            self._alive()
        results = [_result(future) for future in futures]
        if len(results) < len(records):
            results += [_LATE] * (len(records) - len(results))
        if not all(result.confirmed for result in results):
            self._alive()
            _check_count(futures)
        return results


def lost_count() -> Fatal:
    """What to raise after one of LOST_COUNT."""
    return Fatal(
        "Kafka lost count of this producer's records and takes no more of them; the process must start again"
    )


def _check_count(futures: Sequence[asyncio.Future[object] | Appended]) -> None:
    for future in futures:
        if isinstance(future, Appended) or not future.done() or future.cancelled():
            continue
        if isinstance(error := future.exception(), LOST_COUNT):
            raise lost_count() from error


def _result(future: asyncio.Future[object] | Appended) -> Appended:
    if isinstance(future, Appended):
        return future
    if not future.done():
        return _LATE
    error = future.exception()
    return CONFIRMED if error is None else Appended(False, repr(error))
