"""Filling an empty log from a backup: the same records at the same places."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata, RecordMetadata

from infra.kafka.log import DATED_BY_BROKER, KafkaLogReader, configure, describe_partitions
from schemas.errors import Fatal, Retryable
from schemas.topics import GROWABLE
from streams.ports import LogReader, Message, Offsets

#: The producer's own limit on a request.
_REQUEST_BYTES: Final = 32 * 1024 * 1024
_CONFIRM_S: Final = 60.0
#: A record keeps the time that it is sent with, also one that lies ahead of the broker's clock.
_DATED_BY_SENDER: Final = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
}
#: `timestamp_type` of a record whose time is the broker's.
_APPEND_TIME: Final = 1


async def match_partitions(bootstrap: str, wanted: Mapping[str, Offsets]) -> None:
    """Give each topic as many partitions as the backup has of it. Raises Fatal if it has more; Retryable."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        there = await describe_partitions(admin)
        more = {
            topic: NewPartitions(total_count=len(offsets))
            for topic, offsets in wanted.items()
            if len(offsets) > there.get(topic, 0) and topic in GROWABLE
        }
        if more:
            await admin.create_partitions(more)
            for _ in range(100):
                there = await describe_partitions(admin)
                if all(there.get(topic, 0) >= one.total_count for topic, one in more.items()):
                    break
                await asyncio.sleep(0.1)
    except KafkaError as error:
        raise Retryable(f"looking after the topics at {bootstrap}: {error!r}") from error
    finally:
        await admin.close()
    for topic, offsets in wanted.items():
        if there.get(topic, 0) != len(offsets):
            raise Fatal(
                f"topic {topic!r} has {there.get(topic, 0)} partitions and the backup {len(offsets)}: keys "
                "would leave their partitions; restore into an empty broker"
            )


@asynccontextmanager
async def saved_times(bootstrap: str, topics: Collection[str]) -> AsyncIterator[None]:
    """Records that are appended to these topics in the block keep the times that they are sent with.

    After it the broker dates them again. A process that is killed in it leaves that to whoever looks after
    the topics next (`ensure_topics`). Raises Retryable, and Fatal if Kafka refuses.
    """
    await _set_configs(bootstrap, dict.fromkeys(topics, _DATED_BY_SENDER))
    try:
        yield
    finally:
        living: dict[str, str | None] = dict.fromkeys(_DATED_BY_SENDER) | DATED_BY_BROKER
        await _set_configs(bootstrap, dict.fromkeys(topics, living))


async def _set_configs(bootstrap: str, wanted: Mapping[str, Mapping[str, str | None]]) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await configure(admin, wanted)
    except KafkaError as error:
        raise Retryable(f"configuring the topics at {bootstrap}: {error!r}") from error
    finally:
        await admin.close()


async def refill(
    bootstrap: str,
    source: LogReader,
    topic: str,
    ends: Offsets,
    progress: Callable[[int], None],
) -> None:
    """Append the records of a topic, each to its partition; go on where an earlier call was interrupted.

    Every record gets the offset and the time that it had: call it in `saved_times`. Raises Fatal if one does
    not: somebody else appends, or the backup is of a log with gaps; Retryable if the broker does not confirm.
    """
    there = await KafkaLogReader(bootstrap).end_offsets(topic)
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks="all",
        enable_idempotence=True,
        max_request_size=_REQUEST_BYTES,
        linger_ms=5,
    )
    try:
        await producer.start()
        done = 0
        async for messages in source.read(topic, ends, there):
            sent = [
                await producer.send(
                    topic,
                    message.value,
                    key=message.key or None,
                    partition=message.partition,
                    timestamp_ms=max(0, message.timestamp_ms),
                )
                for message in messages
            ]
            for message, future in zip(messages, sent, strict=True):
                _check(message, await asyncio.wait_for(future, _CONFIRM_S))
            done += len(messages)
            progress(done)
    except (KafkaError, TimeoutError) as error:
        raise Retryable(f"appending to {topic}: {error!r}") from error
    finally:
        await producer.stop()


def _check(message: Message, appended: RecordMetadata) -> None:
    if appended.offset != message.offset:
        raise Fatal(
            f"{message.topic}, partition {message.partition}: the record of offset {message.offset} came to "
            f"{appended.offset}; restore into an empty log that nobody else writes"
        )
    if appended.timestamp_type == _APPEND_TIME:
        raise Fatal(
            f"{message.topic}, partition {message.partition}, offset {message.offset}: the broker dated it "
            "itself, though message.timestamp.type is CreateTime; restore into an empty log again"
        )


async def commit_as(bootstrap: str, group: str, committed: Mapping[str, Offsets]) -> None:
    """Say in the group's name that it has done everything before these offsets. Raises Retryable."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        offsets = {
            TopicPartition(topic, partition): OffsetAndMetadata(offset, "")
            for topic, ends in committed.items()
            for partition, offset in ends.items()
        }
        consumer.assign(list(offsets))
        await consumer.commit(offsets)
    except KafkaError as error:
        raise Retryable(f"committing in the name of {group}: {error!r}") from error
    finally:
        await consumer.stop()
