"""When uncommitted records came, asked of a real broker."""

from __future__ import annotations

import datetime as dt

import pytest

from infra.kafka.age import oldest_waiting
from infra.kafka.log import KafkaLogReader, PartitionProgress, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.settings import KafkaSettings
from schemas.topics import INTERACTIONS
from tests.small_log import asked

CAME = dt.datetime(2026, 5, 4, 3, 2, 1, 500_000, tzinfo=dt.UTC)


@pytest.mark.service
async def test_the_first_uncommitted_record_of_each_partition_says_when_it_came(broker: str) -> None:
    await ensure_topics(KafkaSettings(bootstrap=broker))
    reader = KafkaLogReader(broker)
    before = await reader.end_offsets(INTERACTIONS)
    events = [
        asked(f"age-{number}", recordedtime=CAME + dt.timedelta(seconds=second))
        for second in (0, 60)
        for number in range(8)
    ]
    async with KafkaEventLog(broker) as log:
        for event in events:
            assert all(one.confirmed for one in await log.append([event]))
    after = await reader.end_offsets(INTERACTIONS)
    # as if a group had committed all that was there before
    progress = {INTERACTIONS: {p: PartitionProgress(before[p], end) for p, end in after.items()}}
    found = await oldest_waiting(broker, progress)
    grown = {p for p, end in after.items() if end > before[p]}
    assert 1 < len(grown) <= 8
    assert found == {INTERACTIONS: dict.fromkeys(grown, CAME.timestamp())}
    assert await oldest_waiting(broker, {INTERACTIONS: {0: PartitionProgress(after[0], after[0])}}) == {}
