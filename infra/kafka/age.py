"""When the records came that a group of workers has not committed: asked once, when a worker starts."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from infra.kafka.log import PartitionProgress
from schemas.errors import Retryable

_LIMIT_S: Final = 10.0


async def oldest_waiting(
    bootstrap: str, progress: Mapping[str, Mapping[int, PartitionProgress]], *, limit_s: float = _LIMIT_S
) -> dict[str, dict[int, float]]:
    """Topic → partition → when the first uncommitted record came (seconds since 1970), where one waits.

    A partition whose broker does not answer within `limit_s` is left out. Raises Retryable if none answers.
    """
    wanted = {
        TopicPartition(topic, partition): one.committed
        for topic, partitions in progress.items()
        for partition, one in partitions.items()
        if one.committed < one.end
    }
    found: dict[str, dict[int, float]] = {}
    if not wanted:
        return found
    # one byte: the broker answers with the first batch of a partition, and with no more
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap, enable_auto_commit=False, max_partition_fetch_bytes=1
    )
    try:
        await consumer.start()
        consumer.assign(list(wanted))
        for tp, offset in wanted.items():
            consumer.seek(tp, offset)
        async with asyncio.timeout(limit_s):
            while wanted:
                answer = await consumer.getmany(*wanted, timeout_ms=500)
                for tp, records in answer.items():
                    if records and wanted.pop(tp, None) is not None:
                        found.setdefault(tp.topic, {})[tp.partition] = records[0].timestamp / 1000
                        consumer.pause(tp)
    except TimeoutError:
        return found
    except KafkaError as error:
        raise Retryable(f"no Kafka broker answers at {bootstrap}: {error!r}") from error
    finally:
        await consumer.stop()
    return found
