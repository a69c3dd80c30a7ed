"""A batch in memory: who is refused, who goes on, what is tried again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence

import pytest
from msgspec.structs import replace

import streams.queries
from schemas.codec import decode_payload, encode_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import Fatal, Reason, Retryable
from schemas.interactions import QueryAsked
from schemas.rejections import EventRejected
from schemas.topics import INTERACTIONS, LIFECYCLE, REJECTED
from streams.batch import BatchProcessor, BatchReport
from streams.fold import fold_episode
from streams.known import KnownRecords
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Block, Message, QueryKey, RowSink
from streams.records import Record
from streams.settings import StreamSettings
from tests.lifecycle_events import whole_story
from tests.small_log import asked, clicked, conversation, messages_of, stored

BOOM = "boom"


class CountingLookup(MemoryStore):
    """A store that counts the queries that were looked up."""

    looked_up = 0

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        self.looked_up += len(queries)
        return await super().records_of(queries)


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
