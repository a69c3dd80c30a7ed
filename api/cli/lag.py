"""How far the stream worker is behind: end offsets minus committed offsets, asked of the broker."""

from __future__ import annotations

import asyncio

from api.settings import Settings


def read_lag(settings: Settings) -> int | None:
    """Events that are in the log and not yet committed by the worker; None if the broker does not answer."""
    try:
        return asyncio.run(asyncio.wait_for(_lag(settings), 5.0))
    except (TimeoutError, OSError, RuntimeError):
        return None


async def _lag(settings: Settings) -> int | None:
    from aiokafka import AIOKafkaConsumer, TopicPartition
    from aiokafka.errors import KafkaError

    from schemas.topics import TOPICS

    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka.bootstrap, group_id=settings.streams.group, enable_auto_commit=False
    )
    try:
        await consumer.start()
        await consumer.topics()
        partitions = [
            TopicPartition(topic.name, number)
            for topic in TOPICS
            for number in consumer.partitions_for_topic(topic.name) or ()
        ]
        ends = await consumer.end_offsets(partitions)
        committed = await asyncio.gather(*(consumer.committed(tp) for tp in partitions))
        return sum(
            max(0, int(ends[tp]) - int(done or 0)) for tp, done in zip(partitions, committed, strict=True)
        )
    except KafkaError:
        return None
    finally:
        await consumer.stop()
