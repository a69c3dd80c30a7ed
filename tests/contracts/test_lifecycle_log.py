"""What every `LifecycleLog` promises: memory and Kafka."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from learners.memory import MemoryLifecycleLog
from learners.ports import LifecycleLog
from schemas import lifecycle as lc
from schemas.errors import Fatal
from schemas.ids import derive_id
from tests.lifecycle_events import event, whole_story


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.service)])
async def lifecycle(request: pytest.FixtureRequest) -> AsyncIterator[tuple[LifecycleLog, str]]:
    """A log and a tenant that nobody else uses."""
    tenant = f"t-{derive_id(request.node.nodeid)[:8]}"
    if request.param == "memory":
        yield MemoryLifecycleLog(), tenant
        return
    from aiokafka import AIOKafkaProducer

    from infra.kafka.lifecycle import KafkaLifecycleLog, LifecycleTail
    from infra.kafka.log import ensure_topics
    from infra.settings import KafkaSettings

    bootstrap: Any = request.getfixturevalue("broker")
    await ensure_topics(KafkaSettings(bootstrap=bootstrap))
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all")
    await producer.start()
    try:
        async with LifecycleTail(bootstrap) as tail:
            await tail.wait_caught_up()
            yield KafkaLifecycleLog(tail, producer), tenant
    finally:
        await producer.stop()


async def test_a_story_is_read_back_step_by_step(lifecycle: tuple[LifecycleLog, str]) -> None:
    log, tenant = lifecycle
    for each in whole_story(tenant):
        assert (await log.append(each)).accepted
    state = await log.state(tenant)
    assert state.champion == "1.1.0"
    assert tenant in log.tenants()


async def test_appending_again_is_safe_and_said(lifecycle: tuple[LifecycleLog, str]) -> None:
    log, tenant = lifecycle
    first = whole_story(tenant)[0]
    assert (await log.append(first)).accepted
    again = await log.append(first)
    assert not again.accepted
    assert "repeated" in again.reason


async def test_an_illegal_step_is_kept_and_ignored(lifecycle: tuple[LifecycleLog, str]) -> None:
    log, tenant = lifecycle
    outcome = await log.append(event(lc.TrainingRequested(champion="9.9.9"), "t", tenant=tenant))
    assert not outcome.accepted
    assert (await log.state(tenant)).training is None


async def test_two_writers_at_once_get_one_acceptance(lifecycle: tuple[LifecycleLog, str]) -> None:
    log, tenant = lifecycle
    for each in whole_story(tenant)[:4]:
        await log.append(each)
    request = lc.TrainingRequested(champion="1.0.0")
    outcomes = await asyncio.gather(
        *(log.append(event(request, f"w{i}", cause="d1", tenant=tenant)) for i in range(5))
    )
    assert sum(outcome.accepted for outcome in outcomes) == 1


async def test_tenants_do_not_meet(lifecycle: tuple[LifecycleLog, str]) -> None:
    log, tenant = lifecycle
    other = tenant.replace("t-", "o-")
    for each in whole_story(tenant):
        await log.append(each)
    assert (await log.state(other)).champion is None
    assert (await log.append(whole_story(other)[0])).accepted


@pytest.mark.service
async def test_a_producer_that_kafka_lost_count_of_is_fatal(broker: str) -> None:
    from aiokafka import AIOKafkaProducer, TopicPartition

    from infra.kafka.lifecycle import KafkaLifecycleLog, LifecycleTail
    from infra.kafka.log import ensure_topics
    from infra.settings import KafkaSettings

    await ensure_topics(KafkaSettings(bootstrap=broker))
    producer = AIOKafkaProducer(bootstrap_servers=broker, acks="all", enable_idempotence=True)
    await producer.start()
    try:
        async with LifecycleTail(broker) as tail:
            log = KafkaLifecycleLog(tail, producer)
            first, second = whole_story("t-lost-count")[:2]
            assert (await log.append(first)).accepted
            for partition in range(4):
                producer._txn_manager.increment_sequence_number(TopicPartition("lifecycle", partition), 5)
            with pytest.raises(Fatal, match="lost count"):
                await log.append(second)
    finally:
        await producer.stop()
