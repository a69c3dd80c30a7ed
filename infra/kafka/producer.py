"""The append side of the log on Kafka: idempotent, `acks=all`, with a deadline and a cap of our own.

An idempotent aiokafka producer never gives a batch up: while the broker is away it keeps what it has and
goes on trying. So an append that is late is answered as unconfirmed and may still be written, and the cap
counts bytes until Kafka has answered for them, not until the caller went away.
"""

from __future__ import annotations

import asyncio
import functools
import struct
from collections.abc import Mapping, Sequence
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

from infra.kafka.lanes import Handed, Handover, Lane, Packed
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
#: How often a broker is asked that has not heard of new partitions; 0.1 s between.
_COUNTED_AGAIN: Final = 50
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


class KafkaEventLog:
    """`EventLog` over one aiokafka producer; an async context manager, bound to the loop that entered it.

    Guarantees: as the port says. Records of one key stay in the order of appending. A record is sent
    with its received time as timestamp; the topics of the log have the broker's instead, when it appended it.
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
        #: Topic → its own limit, less what a batch and a record add.
        self._max_record_bytes = {topic.name: topic.max_record_bytes - 512 for topic in TOPICS}
        self._producer: AIOKafkaProducer | None = None
        self._lanes: dict[tuple[str, int], Lane] = {}
        #: Appends that Kafka has not answered whole, and their bytes.
        self._under_way: dict[Handover, int] = {}
        self._all_landed = asyncio.Event()
        self._all_landed.set()
        #: Topic → number of partitions, read once; keys move with it, so `count_partitions` says when.
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

    async def count_partitions(self, seen: Mapping[str, int]) -> None:
        """Ask the broker again how many partitions our topics have; keys are spread over these from now on.

        `seen`: topic → how many somebody has seen already; a broker that knows of fewer is asked again for a
        while. Nothing may be appended meanwhile. Raises Retryable.
        """
        producer = self._alive()
        try:
            for _ in range(_COUNTED_AGAIN):
                await producer.client.force_metadata_update()
                counts = {topic.name: len(await producer.partitions_for(topic.name)) for topic in TOPICS}
                if all(counts[topic] >= number for topic, number in seen.items()):
                    self._partitions = counts
                    return
                await asyncio.sleep(0.1)
        except KafkaError as error:
            raise Retryable(f"counting the partitions of our topics: {error!r}") from error
        raise Retryable(f"expected {dict(seen)} partitions, the broker knows of {counts}; it may be late")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Sends what is left, for as long as the deadline allows."""
        if self._producer is not None:
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._all_landed.wait()
            except TimeoutError:
                self._producer._message_accumulator.fail_all(ProducerClosed())
            try:
                async with asyncio.timeout(self._deadline_s):
                    await self._producer.stop()
            except TimeoutError:
                await self._abandon(self._producer)
            self._producer = None
            self._lanes = {}

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
        results: list[Appended | Handed] = []
        by_lane: dict[Lane, tuple[Handed, list[Packed]]] = {}
        handover = Handover(self._landed)
        size_bytes = 0
        for event in events:
            key, value = record_key(event.tenant, event.subject), encode_event(event)
            length = len(key) + len(value)
            topic = BY_NAME[event.type].topic
            if length > self._max_record_bytes[topic]:
                results.append(_too_large(length, self._max_record_bytes[topic]))
                continue
            size_bytes += length
            lane = self._lane(producer, topic, key)
            handed, records = by_lane.get(lane) or by_lane.setdefault(lane, (handover.begin(), []))
            records.append(Packed(key, value, int(event.recordedtime.timestamp() * 1000)))
            results.append(handed)
        if self.in_flight_bytes + size_bytes > self._max_in_flight_bytes:
            raise Retryable(
                f"{self.in_flight_bytes} bytes wait for the log, {size_bytes} more would pass the cap of "
                f"{self._max_in_flight_bytes}; send again later",
                retry_after_s=min(self._deadline_s, 5.0),
            )
        if by_lane:
            self.in_flight_bytes += size_bytes
            self._under_way[handover] = size_bytes
            self._all_landed.clear()
            for lane, (handed, records) in by_lane.items():
                lane.add(records, handed)
            await handover.wait(self._deadline_s)
        answers = [one if isinstance(one, Appended) else _result(one) for one in results]
        if not all(answer.confirmed for answer in answers):
            self._alive()
            for handed, _ in by_lane.values():
                if isinstance(handed.error, LOST_COUNT):
                    raise lost_count() from handed.error
        return answers

    def _lane(self, producer: AIOKafkaProducer, topic: str, key: bytes) -> Lane:
        partition = partition_hash(key) % self._partitions[topic]
        lane = self._lanes.get((topic, partition))
        if lane is None:
            lane = self._lanes[topic, partition] = Lane(producer, topic, partition)
        return lane

    def _landed(self, handover: Handover) -> None:
        self.in_flight_bytes -= self._under_way.pop(handover)
        if not self._under_way:
            self._all_landed.set()


def lost_count() -> Fatal:
    """What to raise after one of LOST_COUNT."""
    return Fatal(
        "Kafka lost count of this producer's records and takes no more of them; the process must start again"
    )


def _too_large(length: int, limit: int) -> Appended:
    return Appended(False, f"the record is {length} bytes, larger than the {limit} that the log takes")


def _result(handed: Handed) -> Appended:
    if handed.error is not None:
        return Appended(False, repr(handed.error))
    return CONFIRMED if handed.done else _LATE
