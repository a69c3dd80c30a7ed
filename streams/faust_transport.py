"""Faust's Kafka transport, with all records that a fetch brought of one partition as one message.

Faust spends 60–75 µs on a message: two tasks to wait for flow control, an event, queues, an acknowledgement.
A *chunk* goes that way once for hundreds of records. What may be committed is counted here, too: of the
chunks of a partition that were handed on since it was assigned, those before the first unacknowledged one.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types.tuples import ConsumerMessage
from mode.utils.futures import notify

#: Most records of a chunk: a batch must not hold the whole backlog of a partition in memory.
CHUNK_RECORDS: Final = 1_000


class Chunk(ConsumerMessage):  # type: ignore[misc]
    """Records of one partition, in order. To Faust it is a message at the offset of the last one."""

    #: aiokafka's own.
    records: Sequence[Any] = ()


class ChunkConsumer(Consumer):  # type: ignore[misc]
    """The group member of a worker. Guarantee: it commits an offset only if every record before it, since the
    partition was assigned, was in a chunk that has been acknowledged.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: Chunks handed on and not counted yet, by partition, in order.
        self._handed: defaultdict[Any, deque[Chunk]] = defaultdict(deque)
        #: Next offset that may be committed, by partition.
        self._stored: dict[Any, int] = {}

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[Any, Chunk]]:  # noqa: ASYNC109 - Faust's
        """What one fetch brought. As Faust's own, it stops in between when partitions move."""
        fetched, active = await self._wait_next_records(timeout)
        generation = self.app.consumer_generation_id
        if fetched is None or self.should_stop:
            return
        if not self.flow_active:
            # fetched before the flow was stopped: read again from what is committed
            await self.perform_seek()
            return
        for tp, records in fetched.items():
            for start in range(0, len(records), CHUNK_RECORDS):
                if not self.flow_active or self.app.consumer_generation_id != generation:
                    return
                if active is not None and tp not in active and tp not in self._buffered_partitions:
                    break
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                chunk = _to_chunk(tp, records[start : start + CHUNK_RECORDS], generation)
                self._handed[tp].append(chunk)
                yield tp, chunk

    def ack(self, message: Chunk) -> bool:
        """Its records are stored."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        notify(self._waiting_for_ack)
        return True

    async def perform_seek(self) -> None:
        """Read again from what is committed: chunks that are still under way come again and do not count."""
        self._handed.clear()
        await super().perform_seek()

    async def on_partitions_revoked(self, revoked: set[Any]) -> None:
        """What is in hand is finished and committed; then these partitions may be another worker's."""
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self._handed.pop(tp, None)
            self._stored.pop(tp, None)

    async def _add_gap(self, tp: Any, offset_from: int, offset_to: int) -> None:
        """Offsets between two chunks need no account of their own."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[Any]:
        return (tp for tp in tuple(self._handed) if topics is None or tp in topics or tp.topic in topics)

    def _new_offset(self, tp: Any) -> int | None:
        handed = self._handed[tp]
        while handed and handed[0].acked:
            self._stored[tp] = handed.popleft().offset + 1
        return self._stored.get(tp)


def _to_chunk(tp: Any, records: Sequence[Any], generation: int) -> Chunk:
    last = records[-1]
    chunk = Chunk(
        last.topic,
        last.partition,
        last.offset,
        last.timestamp / 1000.0,
        last.timestamp_type,
        (),
        b"",
        b"",
        None,
        tp=tp,
        generation_id=generation,
    )
    chunk.records = records
    return chunk


class ChunkTransport(Transport):  # type: ignore[misc]
    """`app.transport` of a worker."""

    Consumer = ChunkConsumer
