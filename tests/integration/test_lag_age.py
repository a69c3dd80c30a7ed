"""When uncommitted records came, asked of a real broker."""

from __future__ import annotations

import asyncio
import datetime as dt
import time

import pytest

from infra.kafka.age import oldest_waiting
from infra.kafka.log import KafkaLogReader, PartitionProgress, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.settings import KafkaSettings
from schemas.topics import INTERACTIONS
from tests.small_log import asked

STAMPED = dt.datetime(2026, 5, 4, 3, 2, 1, 500_000, tzinfo=dt.UTC)


@pytest.mark.service
async def test_the_first_uncommitted_record_of_each_partition_says_when_it_came(broker: str) -> None:
    await ensure_topics(KafkaSettings(bootstrap=broker))
    reader = KafkaLogReader(broker)
    before = await reader.end_offsets(INTERACTIONS)
    began_s = int(time.time() * 1000) / 1000
    async with KafkaEventLog(broker) as log:
        first = [asked(f"age-{number}", recordedtime=STAMPED) for number in range(8)]
        assert all(one.confirmed for one in await log.append(first))
        came_s = time.time()
        await asyncio.sleep(0.005)
        later = [asked(f"age-{number}", recordedtime=STAMPED + dt.timedelta(1)) for number in range(8)]
        assert all(one.confirmed for one in await log.append(later))
    after = await reader.end_offsets(INTERACTIONS)
    # as if a group had committed all that was there before
    progress = {INTERACTIONS: {p: PartitionProgress(before[p], end) for p, end in after.items()}}
    found = await oldest_waiting(broker, progress)
    grown = {p for p, end in after.items() if end > before[p]}
    assert 1 < len(grown) <= 8
    assert found.keys() == {INTERACTIONS}
    assert found[INTERACTIONS].keys() == grown
    # by the broker's clock, which is this one here: whatever the door stamped
    assert all(began_s <= at_s <= came_s for at_s in found[INTERACTIONS].values())
    assert await oldest_waiting(broker, {INTERACTIONS: {0: PartitionProgress(after[0], after[0])}}) == {}
