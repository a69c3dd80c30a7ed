"""`Placement` on Kafka: how many partitions there are, and records appended again where they belong."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from infra.kafka.log import describe_partitions
from infra.kafka.producer import LOST_COUNT, lost_count, partition_hash
from schemas.errors import Retryable
from streams.ports import Message


class KafkaPlacement:
    """Connects when it is asked; an async context manager that closes what it opened."""

    def __init__(self, bootstrap: str, *, client_id: str = "ratchet-placement") -> None:
        self._bootstrap = bootstrap
        self._client_id = client_id
        self._producer: AIOKafkaProducer | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._producer is not None:
            await self._producer.stop()

    async def partitions(self, topic: str) -> int:
        """See the port."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        try:
            await admin.start()
            found = (await describe_partitions(admin)).get(topic, 0)
        except KafkaError as error:
            raise Retryable(f"counting the partitions of {topic}: {error!r}") from error
        finally:
            await admin.close()
        if not found:
            raise Retryable(f"topic {topic!r} is not there (yet)")
        return found

    def partition_of(self, key: bytes, partitions: int) -> int:
        """See the port: as Kafka's own clients place a key."""
        return partition_hash(key) % partitions

    async def forward(self, messages: Sequence[Message], partitions: int) -> None:
        """See the port. Raises Fatal if this producer gets nothing confirmed any more."""
        try:
            producer = await self._started()
            sent = [
                await producer.send(
                    message.topic,
                    message.value,
                    message.key,
                    partition=self.partition_of(message.key, partitions),
                    timestamp_ms=message.timestamp_ms,
                )
                for message in messages
            ]
            await asyncio.gather(*sent)
        except LOST_COUNT as error:
            raise lost_count() from error
        except KafkaError as error:
            raise Retryable(f"passing {len(messages)} records on: {error!r}") from error

    async def _started(self) -> AIOKafkaProducer:
        if self._producer is None:
            producer = AIOKafkaProducer(
                bootstrap_servers=self._bootstrap,
                client_id=self._client_id,
                acks="all",
                enable_idempotence=True,
            )
            try:
                await producer.start()
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
        return self._producer
