"""A rebuild gives the worker's rows, however the log is cut or spread, or the rebuild killed (L6)."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.registry import BY_NAME
from schemas.topics import INTERACTIONS, TOPICS, record_key
from streams.batch import BatchProcessor
from streams.fold import FOLD_VERSION
from streams.memory import MemoryLog, MemoryStore
from streams.memory_beside import MemoryStoreBeside, digest
from streams.ports import Digest, Message, Offsets
from streams.rebuild import RebuildReport, build, keep_as_of, rebuild
from streams.settings import StreamSettings
from tests.lifecycle_events import whole_story
from tests.small_log import asked, clicked, conversation, received_again, removed, retracted, stored

TALK = conversation("q1", arm="new")
EVENTS = [
    *TALK,
    received_again(TALK[0], at_s=40),
    clicked("q1", "d3", at_s=50),
    *conversation("q2", user="bob", at_s=10),
    retracted("q2", "q2-click", at_s=5),
    asked("q2", user="eve", at_s=3),
    clicked("waits", at_s=60),
    *conversation("q1", tenant="other"),
    stored("d1", "one", "e1"),
    stored("d1", "two", "e2", at_s=1),
    removed("d2", "e3"),
]
SETTINGS = StreamSettings()


class Killed(Exception):
    pass


class CutLog(MemoryLog):
    """Read in batches of `cut`, its partitions in an order of its own."""

    def __init__(self, events: list[Event], partitions: int, cut: int, seed: int) -> None:
        super().__init__()
        self._cut = cut
        self._random = random.Random(seed)
        for event in events:
            key = record_key(event.tenant, event.subject)
            partition = zlib.crc32(key) % partitions
            self.put(BY_NAME[event.type].topic, encode_event(event), key=key, partition=partition)

    async def read(
        self, topic: str, until: Offsets, since: Offsets | None = None
    ) -> AsyncIterator[list[Message]]:
        partitions = list(until.items())
        self._random.shuffle(partitions)
        for partition, end in partitions:
            async for messages in super().read(topic, {partition: end}, since):
                for start in range(0, len(messages), self._cut):
                    yield messages[start : start + self._cut]


class Worker:
    """`PausableWorker` that has come to `share` of each partition, and to the end when it is paused."""

    def __init__(self, log: MemoryLog, share: float) -> None:
        self._log = log
        self._share = share

    async def ends(self) -> dict[str, dict[int, int]]:
        return {topic.name: await self._log.end_offsets(topic.name) for topic in TOPICS}

    async def committed(self) -> dict[str, dict[int, int]]:
        ends = await self.ends()
        return {topic: {p: int(end * self._share) for p, end in of.items()} for topic, of in ends.items()}

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[dict[str, dict[int, int]]]:
        self._share = 1.0
        yield await self.ends()


class DyingStore(MemoryStoreBeside):
    """The builder is killed behind the nth note."""

    kill_at: int = -1

    async def note(self, state: bytes) -> None:
        await super().note(state)
        self.kill_at -= 1
        if self.kill_at == 0:
            raise Killed


async def _written_by_a_worker(log: CutLog) -> MemoryStore:
    store = MemoryStore()
    processor = BatchProcessor(store, store, MemoryLog(), SETTINGS)
    for topic in TOPICS:
        async for messages in log.read(topic.name, await log.end_offsets(topic.name)):
            await processor.process(topic.name, messages)
    return store


async def _rebuild(log: CutLog, share: float, kill_at: int) -> RebuildReport:
    store = DyingStore(await _written_by_a_worker(log))
    store.living_fold = FOLD_VERSION
    before = digest(store.living)
    store.kill_at = kill_at
    worker = Worker(log, share)
    try:
        report = await rebuild(log, store, worker, SETTINGS)
        assert not report.resumed
    except Killed:
        report = await rebuild(log, store, worker, SETTINGS)
        assert report.resumed
    assert digest(store.living) == before
    return report


def _whole(events: list[Event]) -> dict[str, Digest]:
    return digest(asyncio.run(_written_by_a_worker(CutLog(events, 1, 1_000, 0))))


STORY = whole_story()
EXPECTED = _whole(EVENTS + STORY)


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(EVENTS),
    repeated=st.lists(st.sampled_from(EVENTS), max_size=6),
    partitions=st.sampled_from([1, 3, 24]),
    cut=st.sampled_from([1, 7, 1_000]),
    piece=st.sampled_from([1, 7, 1_000]),
    seed=st.integers(0, 99),
    share=st.sampled_from([0.0, 0.4, 1.0]),
    kill_at=st.integers(0, 60),
)
def test_any_order_partition_cut_and_kill_gives_the_worker_s_rows(
    order: list[Event],
    repeated: list[Event],
    partitions: int,
    cut: int,
    piece: int,
    seed: int,
    share: float,
    kill_at: int,
) -> None:
    log = CutLog([*order, *repeated, *STORY], partitions, cut, seed)
    with patch.object(build, "PIECE_RECORDS", piece):
        report = asyncio.run(_rebuild(log, share, kill_at))
    assert report.swapped
    if report.beside:  # a kill in the middle of the swap leaves nothing to compare
        assert report.differences == ()
        assert report.living == report.beside == EXPECTED


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(EVENTS), cut=st.sampled_from([1, 7, 1_000]), share=st.floats(0, 1))
def test_a_store_as_of_offsets_is_what_a_worker_would_have_that_knew_no_more(
    order: list[Event], cut: int, share: float
) -> None:
    log = CutLog(order, 3, cut, 1)

    async def keep() -> tuple[dict[str, Digest], dict[str, Digest]]:
        offsets = await Worker(log, share).committed()
        aside = MemoryStoreBeside(MemoryStore())
        kept = await keep_as_of(log, aside, offsets, SETTINGS)
        known = CutLog([], 3, 1_000, 2)
        for topic, ends in offsets.items():
            async for messages in log.read(topic, ends):
                for message in messages:
                    known.put(topic, message.value, key=message.key, partition=message.partition)
        return kept.beside, digest(await _written_by_a_worker(known))

    kept, expected = asyncio.run(keep())
    assert kept == expected
    assert kept["events"].rows <= sum(1 for event in order if BY_NAME[event.type].topic == INTERACTIONS)
