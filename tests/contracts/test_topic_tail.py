"""A followed topic on a real broker: what a reader is told when the broker does not answer."""

from __future__ import annotations

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaConnectionError

from infra.kafka.log import ensure_topics
from infra.kafka.tail import TopicTail
from infra.settings import KafkaSettings
from schemas.errors import Retryable
from schemas.topics import DOCUMENTS

pytestmark = pytest.mark.service


async def test_a_broker_that_does_not_say_where_the_log_ends_is_retryable(
    broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        raise KafkaConnectionError("gone")

    await ensure_topics(KafkaSettings(bootstrap=broker))
    async with TopicTail(broker, DOCUMENTS, lambda *_: None) as tail:
        with monkeypatch.context() as patched:
            patched.setattr(AIOKafkaConsumer, "end_offsets", gone)
            with pytest.raises(Retryable, match="end of documents"):
                await tail.read_to_end()
        await tail.read_to_end()
