"""A batch in memory: who is refused, who goes on, what is tried again."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

import streams.queries
from schemas.codec import decode_payload, encode_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import Fatal, Reason, Retryable
from schemas.interactions import AnswerGiven, QueryAsked
from schemas.rejections import EventRejected
from schemas.topics import INTERACTIONS, LIFECYCLE, REJECTED, TOPICS
from streams.batch import BatchProcessor, BatchReport
from streams.fold import FOLD_VERSION, fold_episode
from streams.known import KnownRecords
from streams.memory import MemoryLog, MemoryStore
from streams.memory_beside import MemoryStoreBeside
from streams.ports import Block, Message, QueryKey, RowSink
from streams.rebuild import rebuild
from streams.records import Record
from streams.rejecting import read_messages
from streams.settings import StreamSettings
from tests.lifecycle_events import whole_story
from tests.small_log import asked, clicked, conversation, messages_of, sealed, stored

BOOM = "boom"


class CountingLookup(MemoryStore):
    """A store that counts the queries that were looked up."""

    looked_up = 0

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        self.looked_up += len(queries)
        return await super().records_of(queries)


def text_bytes(value: object) -> int:
    if isinstance(value, list):
        return sum(map(text_bytes, value))
    return len(value) if isinstance(value, str | bytes) else 0


class NarrowSink:
    """Takes no block above `limit_bytes` of text, as an engine that bounds its requests does."""

    def __init__(self, store: MemoryStore, limit_bytes: int) -> None:
        self.prepare = store.prepare
        self._store = store
        self._limit_bytes = limit_bytes
        self.blocks: Counter[str] = Counter()

    async def insert(self, block: Block) -> None:
        if sum(text_bytes(value) for row in block.payload for value in row.values()) > self._limit_bytes:
            raise Retryable(f"a block of {block.table} is too large, whenever it is sent")
        self.blocks[block.table] += 1
        await self._store.insert(block)


class NarrowLog(MemoryLog):
    """Takes no append above `limit_bytes`, as a log that bounds what is in flight does."""

    limit_bytes = 0
    appends = 0

    async def append(self, events: Sequence[Event]) -> None:
        if sum(len(encode_event(event)) for event in events) > self.limit_bytes:
            raise Retryable("more than may be in flight, whenever it is sent")
        self.appends += 1
        await super().append(events)


class FailingSink:
    """Fails the first inserts as a store that is restarting does."""

    def __init__(self, store: MemoryStore, failures: int) -> None:
        self.prepare = store.prepare
        self._store = store
        self.failures = failures

    async def insert(self, block: Block) -> None:
        if self.failures:
            self.failures -= 1
            raise Retryable("restarting")
        await self._store.insert(block)


def processor_on(
    store: MemoryStore, log: MemoryLog, sink: RowSink | None = None, *, retry_for_s: float = 5.0
) -> BatchProcessor:
    return BatchProcessor(sink or store, store, log, StreamSettings(retry_for_s=retry_for_s))


async def process(
    processor: BatchProcessor, messages: Sequence[Message], cut: int = 1000
) -> list[BatchReport]:
    return [
        await processor.process(messages[0].topic, messages[start : start + cut])
        for start in range(0, len(messages), cut)
    ]


def reasons(log: MemoryLog) -> list[tuple[str, str]]:
    payloads = [decode_payload(event) for event in log.rejections]
    return [(p.reason, p.event_id) for p in payloads if isinstance(p, EventRejected)]


@pytest.fixture
def fold_raises_on_boom(monkeypatch: pytest.MonkeyPatch) -> None:
    def fold(records: Iterable[Record]) -> Episode:
        some = list(records)
        if any(type(r.payload) is QueryAsked and r.payload.user == BOOM for r in some):
            raise ZeroDivisionError(BOOM)
        return fold_episode(some)

    monkeypatch.setattr(streams.queries, "fold_episode", fold)


@pytest.mark.usefixtures("fold_raises_on_boom")
@pytest.mark.parametrize("cut", [1, 2, 1000])
async def test_a_record_that_the_fold_raises_on_is_refused_alone(cut: int) -> None:
    store, log = MemoryStore(), MemoryLog()
    bad = asked("q1", user=BOOM, at_s=1)
    events = [*conversation("q1"), bad, *conversation("q2"), clicked("q1", "d3", "late", at_s=9)]
    await process(processor_on(store, log), messages_of(events), cut)
    assert reasons(log) == [("fold_failed", bad.id)]
    assert [(row["query_id"], row["clicks"]) for row in store.rows("episodes")] == [("q1", 2), ("q2", 1)]
    assert encode_event(bad) not in [row["record"] for row in store.rows("events")]


@pytest.mark.parametrize("cut", [1, 4, 1000])
async def test_a_query_that_is_full_takes_no_more_and_the_others_do(
    cut: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams.queries, "EPISODE_RECORDS", 5)
    store, log = MemoryStore(), MemoryLog()
    # received in another order than they stand in the log: a batch cut otherwise must refuse the same ones
    clicks = [clicked("undefined", f"d{n}", f"c{n}", at_s=n * 5 % 9) for n in range(9)]
    messages = messages_of([*clicks[:4], *conversation("q2"), *clicks[4:]])
    for message in messages:
        log.put(message.topic, message.value, key=message.key)
    for _ in range(2):  # read again, too
        await process(processor_on(store, log), messages, cut)
    rows = {row["query_id"]: row["record_count"] for row in store.rows("episodes")}
    assert rows == {"undefined": 5, "q2": 3}
    refused = {id_ for reason, id_ in reasons(log) if reason == "storage_refused"}
    assert refused == {"c5", "c6", "c7", "c8"}
    kept = {row["event_id"] for row in store.rows("events")}
    assert kept | refused == {event.id for event in [*clicks, *conversation("q2")]}
    assert not kept & refused
    (entry, *_) = [p for e in log.rejections if isinstance(p := decode_payload(e), EventRejected)]
    assert "give each question a query_id of its own" in entry.message

    aside = MemoryStoreBeside(store)
    aside.living_fold = FOLD_VERSION
    await processor_on(store, MemoryLog()).process("rejected", await everything(log, "rejected"))
    report = await rebuild(log, aside, Stopped(log), StreamSettings())
    assert (report.swapped, report.different) == (True, ())


class Stopped:
    """A worker that has read all of the log."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log

    async def committed(self) -> dict[str, dict[int, int]]:
        return {topic.name: await self._log.end_offsets(topic.name) for topic in TOPICS}

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[dict[str, dict[int, int]]]:
        yield await self.committed()


async def everything(log: MemoryLog, topic: str) -> list[Message]:
    return [message async for batch in log.read(topic, await log.end_offsets(topic)) for message in batch]


@pytest.mark.usefixtures("fold_raises_on_boom")
async def test_a_batch_read_again_gives_the_same_entry() -> None:
    store, log = MemoryStore(), MemoryLog()
    messages = messages_of([asked("q1", user=BOOM), *conversation("q2")])
    for _ in range(2):
        await process(processor_on(store, log), messages)
    first, second = log.rejections
    assert encode_event(first) == encode_event(second)


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (Message(INTERACTIONS, 0, 0, b"acme/q", b"{", 0), Reason.UNDECODABLE),
        (Message(INTERACTIONS, 0, 0, b"acme/q", b"", 0), Reason.UNDECODABLE),
        (Message(INTERACTIONS, 0, 0, b"acme/q", b"\xff\xfe", 0), Reason.UNDECODABLE),
        (Message(INTERACTIONS, 0, 0, b"acme/q", b'{"x":' + b"[" * 60_000, 0), Reason.UNDECODABLE),
        (Message(INTERACTIONS, 0, 0, b"acme/q", b"{", 1 << 60), Reason.UNDECODABLE),
    ],
)
async def test_bytes_that_are_no_event_are_kept(message: Message, reason: Reason) -> None:
    log = MemoryLog()
    (report,) = await process(processor_on(MemoryStore(), log), [message])
    assert report.rejected == {reason.value: 1}
    (entry,) = log.rejections
    payload = decode_payload(entry)
    assert isinstance(payload, EventRejected)
    assert (entry.tenant, payload.original, payload.replayable) == ("acme", message.value, True)


@pytest.mark.parametrize("timestamp_ms", [-1, 1_750_000_000_000, 7_258_118_400_000, 1 << 60])
def test_an_entry_can_be_read_whatever_kafkas_clock_said(timestamp_ms: int) -> None:
    message = Message(INTERACTIONS, 0, 0, b"acme/q", b"{", timestamp_ms)
    _, (entry,) = read_messages([message])
    (again,), refused = read_messages([Message(REJECTED, 0, 0, b"", encode_event(entry), timestamp_ms)])
    assert refused == []
    assert encode_event(again[1].event) == encode_event(entry)


def _on_interactions(event: Event) -> Message:
    return messages_of([event])[0]._replace(topic=INTERACTIONS)


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (stored("d1", "text", "e1"), "type"),
        (replace(asked("q1"), subject="q2"), "subject"),
        (replace(asked("q1"), tenant="Not A Tenant"), "tenant"),
        (replace(asked("q1"), recordedtime=dt.datetime(2500, 1, 1, tzinfo=dt.UTC)), "recordedtime"),
        (replace(asked("q1"), time=dt.datetime(1, 1, 1, tzinfo=dt.UTC)), "time"),
    ],
)
async def test_an_event_that_cannot_be_true_here_is_refused(event: Event, field: str) -> None:
    store, log = MemoryStore(), MemoryLog()
    await process(processor_on(store, log), [_on_interactions(event)])
    (entry,) = log.rejections
    payload = decode_payload(entry)
    assert isinstance(payload, EventRejected)
    assert payload.field == field
    assert store.rows("events") == []


async def test_an_entry_about_an_entry_is_not_made() -> None:
    log = MemoryLog()
    await process(processor_on(MemoryStore(), log), [Message(REJECTED, 0, 0, b"acme/x", b"{", 0)])
    assert log.rejections == []


async def test_what_may_pass_later_is_tried_again() -> None:
    store, log = MemoryStore(), MemoryLog()
    sink = FailingSink(store, failures=3)
    await process(processor_on(store, log, sink), messages_of(conversation("q1")))
    assert sink.failures == 0
    assert len(store.rows("events")) == 3


async def test_a_store_that_stays_down_is_fatal() -> None:
    store = MemoryStore()
    processor = processor_on(store, MemoryLog(), FailingSink(store, failures=10_000), retry_for_s=0.2)
    with pytest.raises(Fatal, match=r"0\.2 s"):
        await process(processor, messages_of(conversation("q1")))


async def test_known_queries_are_not_looked_up_until_forgotten() -> None:
    store = CountingLookup()
    processor = processor_on(store, MemoryLog())
    for forget, expected in ((False, 1), (False, 1), (True, 2)):
        if forget:
            processor.forget()
        await process(processor, messages_of([*conversation("q1"), clicked("q1", "d3", str(expected))]))
        assert store.looked_up == expected


def test_known_records_are_bounded_by_bytes() -> None:
    known = KnownRecords(max_bytes=10)
    for name in ("a", "b", "c"):
        known.put(("acme", name), (b"1234",))
    assert [known.get(("acme", name)) for name in ("a", "b", "c")] == [None, (b"1234",), (b"1234",)]
    known.get(("acme", "b"))
    known.put(("acme", "d"), (b"12", b"34"))
    assert known.get(("acme", "c")) is None
    known.put(("acme", "huge"), (b"x" * 11,))
    assert len(known) == 0


async def test_the_lifecycle_state_follows_offsets_and_survives_a_rewind() -> None:
    store, log = MemoryStore(), MemoryLog()
    processor = processor_on(store, log)
    messages = messages_of(whole_story())
    await process(processor, messages, cut=4)
    expected = store.rows("lifecycle")
    await process(processor, messages[3:], cut=5)  # read again, without being told to forget
    assert store.rows("lifecycle") == expected
    assert {row["ignored"] for row in expected} == {""}
    again = [m._replace(offset=m.offset + len(messages), topic=LIFECYCLE) for m in messages[:2]]
    await process(processor, again)
    assert all(row["ignored"].startswith("repeated") for row in store.rows("lifecycle")[-2:])


async def test_a_lifecycle_step_whose_number_fits_no_column_is_refused_and_the_others_go_on() -> None:
    store, log = MemoryStore(), MemoryLog()
    story = whole_story()
    story[4] = replace(story[4], attempt=1 << 40)
    messages = [
        Message(LIFECYCLE, 0, offset, b"acme", encode_event(event), 0) for offset, event in enumerate(story)
    ]
    (report,) = await process(processor_on(store, log), messages)
    assert report.rejected == {Reason.STORAGE_REFUSED: 1}
    (entry,) = log.rejections
    payload = decode_payload(entry)
    assert isinstance(payload, EventRejected)
    assert payload.event_id == story[4].id


def narrow(
    store: MemoryStore, log: MemoryLog, sink: RowSink | None = None, *, insert_bytes: int = 1 << 30
) -> BatchProcessor:
    return BatchProcessor(
        sink or store,
        store,
        log,
        StreamSettings(retry_for_s=0.1),
        insert_bytes=insert_bytes,
        append_bytes=8_000,
    )


async def test_documents_that_are_larger_together_than_the_store_takes_are_stored_in_several_blocks() -> None:
    store, log = MemoryStore(), MemoryLog()
    sink = NarrowSink(store, limit_bytes=60_000)
    documents = [stored(f"d{n}", f"{n} " + "x" * 2_000, f"e{n}") for n in range(400)]
    (report,) = await process(narrow(store, log, sink, insert_bytes=40_000), messages_of(documents))
    assert report.new_records == len(store.rows("documents")) == 400
    assert log.rejections == []
    assert 20 < sink.blocks["documents"] < 40


async def test_queries_that_are_larger_together_than_the_store_takes_are_stored_in_several_blocks() -> None:
    store, log = MemoryStore(), MemoryLog()
    sink = NarrowSink(store, limit_bytes=60_000)
    processor = narrow(store, log, sink, insert_bytes=20_000)
    long = [
        sealed(AnswerGiven(query_id=f"q{n}", answer_id="a", text="x" * 2_000), f"q{n}-answer")
        for n in range(100)
    ]
    await process(processor, messages_of(long))
    # what is stored counts as well: these events are small, the episodes that they touch are not
    await process(processor, messages_of(clicked(f"q{n}") for n in range(100)))
    assert len(store.rows("events")) == 200
    assert [row["answer_ids"] for row in store.rows("episodes")] == [["a"]] * 100
    assert [row["waiting_feedback"] for row in store.rows("episodes")] == [1] * 100
    assert log.rejections == []


async def test_rejections_that_are_larger_together_than_the_log_takes_are_appended_in_several_calls() -> None:
    log = NarrowLog()
    log.limit_bytes = 16_000
    garbage = [Message(INTERACTIONS, 0, n, b"acme/q", b"{%d" % n + b"x" * 600, 0) for n in range(300)]
    (report,) = await process(narrow(MemoryStore(), log), garbage)
    assert report.rejected == {Reason.UNDECODABLE.value: 300}
    assert len({event.subject for event in log.rejections}) == 300
    assert 20 < log.appends < 100
