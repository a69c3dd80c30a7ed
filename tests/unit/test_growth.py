"""A topic that got more partitions: doors closed meanwhile, and no query folded by two workers at once."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from api.cli.local_stack import local_stack
from api.cli.project import Project
from api.settings import SettingsError, load_settings
from infra.kafka.gate import GatedEventLog
from infra.kafka.producer import partition_hash
from infra.local.spec import HttpReady
from ingest.ports import CONFIRMED, Appended
from schemas import lifecycle as lc
from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.errors import Retryable
from schemas.lifecycle_state import apply
from schemas.tenant_state import LifecycleState
from schemas.topics import DOCUMENTS, GROWABLE, INTERACTIONS, LIFECYCLE, PLATFORM, record_key
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.placement import PlacedBatchProcessor
from streams.ports import Message, QueryKey
from streams.settings import StreamSettings
from tests.contents import Content, held_in_memory
from tests.lifecycle_events import event, fold
from tests.small_log import asked, clicked, stored

CLOSED: Final = event(lc.TopicClosed(topic="interactions", reason="more"), "c1", tenant=PLATFORM)
OPENED: Final = event(lc.TopicOpened(topic="interactions", partitions=48), "o1", tenant=PLATFORM)
SETTINGS: Final = StreamSettings()


class SlowStore(MemoryStore):
    """A store whose look-ups take a while: others look up before one writes."""

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        found = await super().records_of(queries)
        for _ in range(20):
            await asyncio.sleep(0)
        return found


class MemoryTopic:
    """A topic with so many partitions, as a `Placement`."""

    def __init__(self, partitions: int) -> None:
        self.count = partitions
        self.records: dict[int, list[Message]] = {}

    async def partitions(self, topic: str) -> int:
        return self.count

    def partition_of(self, key: bytes, partitions: int) -> int:
        return partition_hash(key) % partitions

    def put(self, one: Event, partition: int) -> Message:
        queue = self.records.setdefault(partition, [])
        key = record_key(one.tenant, one.subject)
        queue.append(Message(INTERACTIONS, partition, len(queue), key, encode_event(one), 0))
        return queue[-1]

    async def forward(self, messages: Sequence[Message], partitions: int) -> None:
        for message in messages:
            number = self.partition_of(message.key, partitions)
            queue = self.records.setdefault(number, [])
            queue.append(message._replace(partition=number, offset=len(queue)))


def moved_query(before: int, after: int) -> str:
    """A query whose partition changes with the count."""
    for number in range(100):
        number_of = partition_hash(record_key("acme", f"q{number}"))
        if number_of % before != number_of % after:
            return f"q{number}"
    raise AssertionError("every key stays")


async def clean(messages: Sequence[Message]) -> list[Content]:
    store = MemoryStore()
    await BatchProcessor(store, store, MemoryLog(), SETTINGS).process(INTERACTIONS, messages)
    return held_in_memory(store, "episodes")


async def test_two_workers_that_fold_one_query_at_once_lose_a_part_of_it_unless_it_is_passed_on() -> None:
    query = moved_query(24, 48)
    topic = MemoryTopic(48)
    number = partition_hash(record_key("acme", query))
    early = topic.put(asked(query), number % 24)
    late = topic.put(clicked(query, at_s=5), number % 48)
    expected = await clean([early, late])

    store = SlowStore()
    plain = [BatchProcessor(store, store, MemoryLog(), SETTINGS) for _ in range(2)]
    await asyncio.gather(plain[0].process(INTERACTIONS, [early]), plain[1].process(INTERACTIONS, [late]))
    assert held_in_memory(store, "episodes") != expected

    store = SlowStore()
    placed = [PlacedBatchProcessor(store, store, MemoryLog(), SETTINGS, placement=topic) for _ in range(2)]
    first, _ = await asyncio.gather(
        placed[0].process(INTERACTIONS, [early]), placed[1].process(INTERACTIONS, [late])
    )
    assert (first.messages, placed[0].forwarded) == (0, 1)
    owned = topic.records[number % 48]
    assert [message.value for message in owned] == [late.value, early.value]
    await placed[1].process(INTERACTIONS, owned[1:])
    assert held_in_memory(store, "episodes") == expected


async def test_a_topic_that_was_never_raised_is_folded_where_its_records_lie() -> None:
    topic, store = MemoryTopic(24), MemoryStore()
    processor = PlacedBatchProcessor(store, store, MemoryLog(), SETTINGS, placement=topic)
    odd = topic.put(asked("q1"), (partition_hash(record_key("acme", "q1")) + 1) % 24)
    assert (await processor.process(INTERACTIONS, [odd])).messages == 1
    assert processor.forwarded == 0
    # counted again after the next assignment
    topic.count = 48
    processor.forget()
    assert (await processor.process(INTERACTIONS, [odd])).messages == 0


async def test_what_cannot_be_read_is_rejected_where_it_lies() -> None:
    """Its time is the broker's: appended elsewhere it would be dated anew, and count twice."""
    topic, store, log = MemoryTopic(48), MemoryStore(), MemoryLog()
    query = moved_query(24, 48)
    number = partition_hash(record_key("acme", query)) % 24
    processor = PlacedBatchProcessor(store, store, log, SETTINGS, placement=topic)
    readable = topic.put(asked(query), number)
    torn = readable._replace(offset=1, value=b"{torn", timestamp_ms=1_750_000_000_000)
    for _ in range(2):  # delivered again
        await processor.process(INTERACTIONS, [torn, readable])
    assert processor.forwarded == 2
    assert all(message.value == readable.value for message in topic.records[number + 24])
    first, again = log.rejections
    assert first == again
    assert first.recordedtime.timestamp() == 1_750_000_000


async def test_records_of_other_topics_lie_where_they_lie() -> None:
    topic, store = MemoryTopic(48), MemoryStore()
    processor = PlacedBatchProcessor(store, store, MemoryLog(), SETTINGS, placement=topic)
    one = stored("d1", "text", "e1")
    message = Message(DOCUMENTS, 47, 0, record_key("acme", "d1"), encode_event(one), 0)
    assert (await processor.process(DOCUMENTS, [message])).messages == 1


def test_topics_are_closed_by_the_platform_once_and_never_lose_a_partition() -> None:
    again = event(lc.TopicClosed(topic="interactions"), "c2", tenant=PLATFORM)
    fewer = event(lc.TopicOpened(topic="interactions", partitions=24), "o2", tenant=PLATFORM)
    other = event(lc.TopicOpened(topic="documents", partitions=24), "o3", tenant=PLATFORM)
    state, outcomes = fold([CLOSED, again, other, OPENED, fewer, replace(again, id="c3"), fewer])
    assert [outcome.reason for outcome in outcomes] == [
        "",
        "topic 'interactions' is closed already",
        "topic 'documents' is not closed",
        "",
        "topic 'interactions' is not closed",
        "",
        "repeated: this event is already in the log",
    ]
    assert (dict(state.closed), dict(state.partitions)) == ({"interactions": "c3"}, {"interactions": 48})
    _, (refused,) = fold([event(lc.TopicOpened(topic="interactions", partitions=24), "o4")], state)
    assert refused.reason == "topic 'interactions' had 48 partitions; it cannot lose one"
    _, (by_tenant,) = fold([event(lc.TopicClosed(topic="rejected"), "c4", tenant="acme")])
    assert "by 'platform' only" in by_tenant.reason


def test_only_topics_without_an_order_may_grow() -> None:
    assert LIFECYCLE not in GROWABLE
    for topic in GROWABLE:
        lc.TopicClosed(topic=topic)


class MemoryLifecycle:
    """The state of tenants after what was taken."""

    def __init__(self) -> None:
        self.caught_up = False
        self._states: dict[str, LifecycleState] = {}
        self._empty = LifecycleState()

    def take(self, one: Event) -> None:
        state, outcome = apply(self.current(one.tenant), one)
        assert outcome.accepted
        self._states[one.tenant] = state

    def current(self, tenant: str) -> LifecycleState:
        return self._states.get(tenant, self._empty)


class MemoryPartitions:
    """A log that remembers what was counted."""

    def __init__(self) -> None:
        self.counted: list[dict[str, int]] = []
        self.appended: list[Event] = []

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        self.appended += events
        return [CONFIRMED] * len(events)

    async def count_partitions(self, seen: Mapping[str, int]) -> None:
        self.counted.append(dict(seen))


async def test_a_gate_is_closed_before_the_lifecycle_was_read_and_while_a_topic_is_closed() -> None:
    lifecycle, log = MemoryLifecycle(), MemoryPartitions()
    gate = GatedEventLog(log, lifecycle)
    with pytest.raises(Retryable, match="has not been read to its end"):
        await gate.append([asked("q")])
    lifecycle.caught_up = True
    await gate.append([asked("q")])
    lifecycle.take(CLOSED)
    with pytest.raises(Retryable, match="closed while it gets more partitions") as refused:
        await gate.append([stored("d", "text", "e"), asked("q")])
    assert refused.value.retry_after_s >= 1
    await gate.append([stored("d", "text", "e")])
    assert (len(log.appended), log.counted) == (2, [])
    lifecycle.take(OPENED)
    await gate.append([asked("q")])
    assert (len(log.appended), log.counted) == (3, [{"interactions": 48}])


@pytest.mark.service
def test_a_local_stack_starts_as_many_workers_as_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "ratchet.toml").write_text("[streams]\nworkers = 3\n")
    spec = local_stack(Project(tmp_path), learn=False)
    workers = [process for process in spec.processes if process.argv[3] == "api.processes.streams"]
    assert [worker.name for worker in workers] == ["streams", "streams-2", "streams-3"]
    ids = [worker.env.get("RATCHET_STREAMS__INSTANCE", StreamSettings().instance) for worker in workers]
    assert ids == ["worker-1", "worker-2", "worker-3"]
    ports = [spec.ports[worker.name] for worker in workers]
    assert len(set(ports)) == 3
    for worker, port in zip(workers, ports, strict=True):
        assert worker.ready == HttpReady(f"http://127.0.0.1:{port}/readyz")
    spec.start_order()
    # the same ports the next time
    again = local_stack(Project(tmp_path), learn=False)
    assert again.ports == spec.ports


def test_no_tenant_is_called_like_what_concerns_all(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="concerns all tenants"):
        load_settings(tmp_path, {"RATCHET_TENANTS__PLATFORM__KEY": "k"})
