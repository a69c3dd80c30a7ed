"""A time becomes offsets by when the broker appended, whatever a door's clock said; restored logs, too."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator
from typing import Final

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from api.cli.as_of import read_as_of
from infra.kafka.log import KafkaLogReader, ensure_topics, new_configs
from infra.kafka.producer import KafkaEventLog
from infra.kafka.refill import refill, saved_times
from infra.settings import KafkaSettings
from schemas.topics import DOCUMENTS, INTERACTIONS, TOPICS
from streams.ports import Message, Offsets
from tests.live_services import running_kafka
from tests.small_log import asked

pytestmark = [pytest.mark.service, pytest.mark.timeout(120)]

DAY_MS: Final = 24 * 3600 * 1000
#: Of an older log: nobody has set what dates its records.
OLDER: Final = {"segment.bytes": str(1 << 20)}


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaSettings]:
    """A broker with topics of an older version."""
    with running_kafka(tmp_path_factory.mktemp("kafka")) as settings:
        asyncio.run(make_older_topics(settings))
        yield settings


async def make_older_topics(settings: KafkaSettings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(
                    topic.name,
                    topic.partitions,
                    1,
                    topic_configs=new_configs(topic, 1) | OLDER | {"message.timestamp.type": "CreateTime"},
                )
                for topic in TOPICS
            ]
        )
    finally:
        await admin.close()


async def configs_of(settings: KafkaSettings, topic: str) -> dict[str, str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        ((_code, _text, _type, _name, entries),) = answer.resources
        return {entry[0]: entry[1] for entry in entries}
    finally:
        await admin.close()


async def append(settings: KafkaSettings, topic: str, partition: int, *times_ms: int) -> None:
    """A batch a record, each with the time of its sender."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap)
    await producer.start()
    try:
        for time_ms in times_ms:
            await producer.send_and_wait(topic, b"v", key=b"k", partition=partition, timestamp_ms=time_ms)
    finally:
        await producer.stop()


async def records(settings: KafkaSettings, topic: str, partition: int) -> list[Message]:
    reader = KafkaLogReader(settings.bootstrap)
    end = (await reader.end_offsets(topic))[partition]
    return [message async for batch in reader.read(topic, {partition: end}) for message in batch]


def now_ms() -> int:
    return int(time.time() * 1000)


def as_text(time_ms: int) -> str:
    return dt.datetime.fromtimestamp(time_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")


async def test_a_door_whose_clock_is_wrong_does_not_move_the_cut(kafka: KafkaSettings) -> None:
    reader = KafkaLogReader(kafka.bootstrap)
    await append(kafka, INTERACTIONS, 0, now_ms() - DAY_MS)  # dated by its sender: the topic is an older one
    assert await ensure_topics(kafka) == []
    configs = await configs_of(kafka, INTERACTIONS)
    assert configs["message.timestamp.type"] == "LogAppendTime"
    assert configs.items() >= (OLDER | {"retention.ms": "-1"}).items(), "what was set is kept"

    # an hour behind, and so far ahead that a topic of senders' times would refuse it
    await append(kafka, INTERACTIONS, 0, now_ms() - 3_600_000, now_ms() + DAY_MS)
    await asyncio.sleep(0.01)
    cut = now_ms()
    await asyncio.sleep(0.01)
    await append(kafka, INTERACTIONS, 0, now_ms() - 10 * DAY_MS, now_ms() + 10 * DAY_MS)
    async with KafkaEventLog(kafka.bootstrap) as log:  # as a door does it
        (result,) = await log.append([asked("q1")])
    assert result.confirmed
    ends = await reader.end_offsets(INTERACTIONS)

    offsets = await read_as_of(reader, as_text(cut))
    assert offsets[INTERACTIONS] == dict.fromkeys(ends, 0) | {0: 3}
    at_the_end = await read_as_of(reader, as_text(now_ms() + DAY_MS))
    assert at_the_end[INTERACTIONS] == ends
    assert (await read_as_of(reader, as_text(cut - 2 * DAY_MS)))[INTERACTIONS] == dict.fromkeys(ends, 0)
    assert (await read_as_of(reader, as_text(cut - DAY_MS // 2)))[INTERACTIONS][0] == 1
    # the broker's times are stored: read again they are the same
    assert await records(kafka, INTERACTIONS, 0) == await records(kafka, INTERACTIONS, 0)


class Saved:
    """Records of one partition, as a backup gives them."""

    def __init__(self, messages: list[Message]) -> None:
        self._messages = messages

    async def end_offsets(self, topic: str) -> dict[int, int]:
        return {0: len(self._messages)}

    async def read(
        self, topic: str, until: Offsets, since: Offsets | None = None
    ) -> AsyncIterator[list[Message]]:
        for start in range((since or {}).get(0, 0), len(self._messages), 50):
            yield self._messages[start : start + 50]


async def test_a_restored_log_is_cut_by_the_times_that_it_had_and_by_those_that_follow(
    kafka: KafkaSettings,
) -> None:
    """Several segments of saved times, one of them ahead of this broker's clock; then the broker's own."""
    await ensure_topics(kafka)
    began = now_ms()
    value = bytes(range(256)) * 20
    saved = [
        Message(DOCUMENTS, 0, number, b"acme/d", value, began - 60 * DAY_MS + number * 1000)
        for number in range(600)
    ]
    source = Saved(saved)
    async with saved_times(kafka.bootstrap, [DOCUMENTS]):
        await refill(kafka.bootstrap, source, DOCUMENTS, {0: len(saved)}, lambda _: None)
    configs = await configs_of(kafka, DOCUMENTS)
    assert configs["message.timestamp.type"] == "LogAppendTime"
    assert configs["message.timestamp.after.max.ms"] == "3600000", "as the broker has it"
    assert await records(kafka, DOCUMENTS, 0) == saved

    for _ in range(3):
        await append(kafka, DOCUMENTS, 0, began - 365 * DAY_MS, began + 365 * DAY_MS)
        await asyncio.sleep(0.005)
    whole = await records(kafka, DOCUMENTS, 0)
    times = [message.timestamp_ms for message in whole]
    assert times == sorted(times)
    assert began <= times[len(saved)] <= times[-1] <= now_ms()
    reader = KafkaLogReader(kafka.bootstrap)
    for at_ms in (times[0], times[333], times[599], times[600], times[-3], times[-1]):
        for wanted in (at_ms - 1, at_ms, at_ms + 1):
            expected = next((n for n, time_ms in enumerate(times) if time_ms >= wanted), len(whole))
            assert (await reader.offsets_at(DOCUMENTS, wanted))[0] == expected

    # one from a broker whose clock was ahead keeps its time, too
    ahead = Message(DOCUMENTS, 0, len(whole), b"acme/d", b"ahead", began + DAY_MS)
    async with saved_times(kafka.bootstrap, [DOCUMENTS]):
        await refill(kafka.bootstrap, Saved([*whole, ahead]), DOCUMENTS, {0: len(whole) + 1}, lambda _: None)
    assert (await records(kafka, DOCUMENTS, 0))[-1] == ahead
