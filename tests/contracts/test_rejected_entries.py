"""`RejectedEntries` on the real engine, under the analysts' account, over what a worker stored."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client

from api.replaying import AmbiguousEntry, Replaying, Wanted
from infra.clickhouse.connection import LIVE, Databases, open_client
from infra.clickhouse.migrate import migrate
from infra.clickhouse.rejected import AnalystRejected
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.settings import ClickHouseSettings
from ingest.intake import Intake
from ingest.memory import MemoryEventLog
from ingest.mending import Mend
from ingest.replay import Person, Replays, Trial
from ingest.settings import IngestSettings
from schemas.codec import decode_event, encode_event
from schemas.envelope import Event
from schemas.errors import Reason, Rejectable, Retryable
from schemas.registry import BY_NAME
from schemas.rejections import EntryFilter, RejectedEntry, rejection_entry_id
from streams.batch import BatchProcessor
from streams.memory import MemoryLog
from streams.ports import TABLES
from streams.records import Arrival
from streams.rejecting import reject_arrival
from streams.settings import StreamSettings
from tests.live_services import running_engine
from tests.small_log import START, clicked, conversation, messages_of, received_again, stored

pytestmark = pytest.mark.service

AGAIN = Databases("again_store", "again")
SETTINGS = IngestSettings()
PERSON = Person("urn:ratchet:person:ada", "ratchet rejected replay", "cli")


class Stack:
    """A door, a log in memory and a worker over a real store."""

    def __init__(self, client: Client, settings: ClickHouseSettings) -> None:
        self.client = client
        self.log = MemoryEventLog()
        self.intake = Intake(self.log, SETTINGS, code_version="0.1.0")
        self.entries = AnalystRejected(settings)
        self.processor = worker(client, LIVE)
        self.read: dict[str, int] = {}
        self.time = START

    def now(self) -> dt.datetime:
        """A clock that never shows a time twice."""
        self.time += dt.timedelta(seconds=1)
        return self.time

    async def send(self, *events: bytes, door: str = "http") -> None:
        """Take events in at a door, and store them."""
        await self.intake.take(events, tenant="acme", door=door, received=self.now())
        await self.work()

    async def put(self, *events: Event) -> None:
        """Append events as they are, and store them."""
        await self.log.append(events)
        await self.work()

    async def work(self) -> None:
        """What the worker does with what is new in the log, twice."""
        for topic, records in self.log.records.items():
            first = self.read.get(topic, 0)
            self.read[topic] = len(records)
            new = messages_of([decode_event(value) for _, value in records[first:]], first_offset=first)
            for _ in range(2):
                await self.processor.process(topic, new)
                self.processor.forget()

    async def listed(self, **chosen: Any) -> list[RejectedEntry]:
        """Entries of acme that pass a filter."""
        return await self.entries.entries("acme", EntryFilter(**chosen), 100)

    def replaying(self) -> Replaying:
        """Replays of acme."""
        replays = Replays(self.log, SETTINGS, code_version="0.1.0")
        return Replaying(
            self.entries, Trial(SETTINGS), tenant="acme", now=self.now, person=PERSON, replays=replays
        )

    async def replay(self, *ids: str, mend: Mend | None = None, new_id: bool = False) -> list[str]:
        """Replay these entries and store what was sent; what became of each."""
        portions = self.replaying().replay(Wanted(ids=ids), mend or Mend(), new_id)
        results: list[str] = [one.status async for portion in portions for one in portion]
        await self.work()
        return results


def worker(client: Client, databases: Databases) -> BatchProcessor:
    sink, lookup = ClickHouseRowSink(client, databases), ClickHouseRecordLookup(client, databases)
    return BatchProcessor(sink, lookup, MemoryLog(), StreamSettings())


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture
async def stack(engine: ClickHouseSettings) -> AsyncIterator[Stack]:
    client = open_client(engine)
    for databases in (LIVE, AGAIN):
        migrate(client, databases)
        for table in TABLES:
            client.command(f"TRUNCATE TABLE {databases.store}.{table}")
    made = Stack(client, engine)
    async with made.entries:
        yield made
    client.close()


def sent(event: Event, **changes: Any) -> bytes:
    """The event as an application sends it."""
    body = json.loads(encode_event(event))
    for name in ("tenant", "recordedtime", "contenthash", "door", "subject"):
        body.pop(name, None)
    return json.dumps(body | changes).encode()


def misspelt(query_id: str, **changes: Any) -> bytes:
    """A click whose kind nobody knows."""
    body = json.loads(sent(clicked(query_id)))
    return json.dumps(body | {"data": body["data"] | {"kind": "clik"}} | changes).encode()


async def test_an_entry_shows_whole_counts_its_repeats_and_is_found_by_every_side(stack: Stack) -> None:
    bad = misspelt("q1")
    for _ in range(3):
        await stack.send(bad)
    await stack.send(misspelt("q2", source="other"), door="file")
    await stack.send(b"\xff not JSON '\t\\")
    latest, other, first = await stack.listed()
    assert first.entry_id == rejection_entry_id("acme", bad)
    assert (first.reason, first.field, first.door, first.times) == ("invalid_value", "data.kind", "http", 3)
    assert (first.event_source, first.event_id) == ("shop", "q1-click")
    assert (first.received_time, first.last_received_time) == (
        START + dt.timedelta(seconds=1),
        START + dt.timedelta(seconds=3),
    )
    assert first.replayable
    assert (await stack.entries.originals("acme", [latest.entry_id, first.entry_id])) == {
        latest.entry_id: b"\xff not JSON '\t\\",
        first.entry_id: bad,
    }
    assert await stack.listed(reason="invalid_json") == [latest]
    assert await stack.listed(source="other", door="file") == [other]
    assert await stack.listed(type="ratchet.feedback.given.v1", door="http") == [first]
    assert await stack.listed(since=START + dt.timedelta(seconds=5)) == [latest]
    assert await stack.listed(until=START + dt.timedelta(seconds=4)) == [first]
    assert await stack.listed(source="it's \\ \t nobody") == []
    assert await stack.entries.entries("other", EntryFilter(), 100) == []
    counted = await stack.entries.counts("acme", EntryFilter(), "reason", 10)
    assert [(one.value, one.entries, one.times) for one in counted] == [
        ("invalid_value", 2, 4),
        ("invalid_json", 1, 1),
    ]
    days = await stack.entries.counts("acme", EntryFilter(), "day", 10)
    assert [(one.value, one.times) for one in days] == [("2026-06-01", 5)]
    assert await stack.entries.named("acme", [first.entry_id[:8], "ffffffff", "a"]) == [first]
    assert await stack.entries.lengths("acme", EntryFilter(), 1) == [(first.entry_id, len(bad))]


async def test_mended_it_is_stored_and_gone_and_a_second_replay_changes_nothing(stack: Stack) -> None:
    await stack.put(*conversation("q1")[:2])
    await stack.send(misspelt("q1"))
    (entry,) = await stack.listed()
    assert await stack.replay(entry.entry_id) == ["would_fail"]
    mend = Mend(set={"data.kind": "click"})
    (attempt,) = [a async for p in stack.replaying().attempts(Wanted(), mend, False) for a in p]
    assert attempt.why is None
    assert len(await stack.listed()) == 1  # trying is no sending
    # killed after the event and before the step: the same again
    await stack.intake.take(
        attempt.items, tenant="acme", door="replay", received=stack.now(), timetrusted=attempt.timetrusted
    )
    await stack.work()
    assert len(await stack.listed()) == 1
    assert await stack.replay(entry.entry_id[:8], mend=mend) == ["replayed"]
    assert await stack.listed() == []
    assert await stack.replay(entry.entry_id, mend=mend) == []
    (gone,) = await stack.replaying().not_standing([entry.entry_id[:12]])
    assert gone.status == "answered"
    assert "replayed as event q1-click from shop on 2026-06-01" in gone.message
    counts = stack.client.query("SELECT record_count, repeats, clicks FROM ratchet.episodes").result_rows
    assert [tuple(row) for row in counts] == [(4, 1, 1)]
    doors = stack.client.query("SELECT door FROM ratchet.events WHERE event_id = 'q1-click'").result_rows
    assert [tuple(row) for row in doors] == [("replay",)]
    # the same bad bytes again are the same entry, which has been answered
    await stack.send(misspelt("q1"))
    assert await stack.listed() == []


async def test_what_would_make_a_conflict_is_not_sent(stack: Stack) -> None:
    await stack.put(*conversation("q1"))
    await stack.send(misspelt("q1"))  # under the id of the click that stands
    (entry,) = await stack.listed()
    mend = Mend(set={"data.kind": "copy"})
    assert await stack.replay(entry.entry_id, mend=mend) == ["would_fail"]
    assert await stack.replay(entry.entry_id, mend=mend, new_id=True) == ["replayed"]
    assert await stack.listed() == []
    assert await stack.replay("f" * 64) == []


async def test_conflicts_of_queries_and_documents_are_answered(stack: Stack) -> None:
    talk = conversation("q1")
    lost = clicked("q1", "d3", at_s=60)
    await stack.put(
        *talk,
        lost,
        received_again(lost, at_s=90),
        stored("d1", "old", "e1"),
        stored("d1", 'a "new"', "e1", at_s=9),
    )
    document, click = sorted(await stack.listed(), key=lambda one: one.subject)
    assert (click.reason, click.times, click.replayable, click.door) == ("conflict", 2, True, "http")
    assert (await stack.entries.stored("acme", [("q1", "shop", "q1-click")])).popitem()[1][0] == talk[
        2
    ].contenthash
    assert await stack.replay(click.entry_id, document.entry_id) == ["would_fail", "would_fail"]
    assert await stack.replay(click.entry_id, document.entry_id, new_id=True) == ["replayed", "replayed"]
    assert await stack.listed() == []
    texts = stack.client.query("SELECT text FROM ratchet.documents").result_rows
    assert [tuple(row) for row in texts] == [('a "new"',)]
    # and given up, which holds when the same content comes once more
    others = clicked("q1", "d1", at_s=70), stored("d1", "third", "e1", at_s=10)
    await stack.put(*others)
    found = await stack.listed(reason="conflict")
    assert len(found) == 2
    portions = stack.replaying().discard(Wanted(ids=tuple(one.entry_id for one in found)), "wrong")
    assert [one.confirmed async for portion in portions for one in portion] == [True, True]
    await stack.put(*(received_again(one, at_s=95) for one in others))
    assert await stack.listed() == []
    (gone,) = await stack.replaying().not_standing([found[0].entry_id])
    assert "discarded (wrong)" in gone.message


async def test_what_the_fold_refused_is_replayed_after_a_mend(stack: Stack) -> None:
    event = clicked("q1", at_s=5)
    arrival = Arrival(event, encode_event(event), "interactions", 0, 0)
    await stack.put(reject_arrival(arrival, Rejectable(Reason.FOLD_FAILED, "a defect")))
    (entry,) = await stack.listed(door="streams")
    assert (entry.subject, entry.event_id, entry.replayable) == ("q1", "q1-click", True)
    assert await stack.replay(entry.entry_id) == ["replayed"]
    assert await stack.listed() == []


async def test_feedback_that_waits_for_its_query_answers_its_entry(stack: Stack) -> None:
    body = {
        "specversion": "1.0",
        "id": "f-1",
        "source": "shop",
        "type": "ratchet.feedback.referred.v1",
        "data": {"reference": "answer:a-1", "kind": "thumbs", "value": 1, "target": {"kind": "query"}},
    }
    await stack.send(json.dumps(body).encode())
    (entry,) = await stack.listed()
    assert await stack.replay(entry.entry_id, mend=Mend(set={"data.kind": "thumb"})) == ["replayed"]
    assert await stack.listed() == []


async def test_a_filter_chooses_what_is_replayed_and_names_are_clear(stack: Stack) -> None:
    await stack.send(*(misspelt(f"q{n}", id=f"c-{n}") for n in range(7)))
    await stack.send(misspelt("q9", source="other"))
    with pytest.raises(AmbiguousEntry, match="at least 8"):
        await stack.replaying().named(["abc"])
    wanted = Wanted(filter=EntryFilter(source="shop"), limit=5)
    mend = Mend(values={"data.kind": {"clik": "click"}})
    results = [one async for part in stack.replaying().replay(wanted, mend, False) for one in part]
    await stack.work()
    assert [one.status for one in results] == ["replayed"] * 5
    ids = sorted((rejection_entry_id("acme", misspelt(f"q{n}", id=f"c-{n}")), f"c-{n}") for n in range(7))
    assert [one.events[0].id for one in results] == [name for _, name in ids[:5]]  # all came at one time
    assert len(await stack.listed()) == 3


async def test_a_rebuild_knows_replays_and_discards(stack: Stack) -> None:
    await stack.send(misspelt("q1"), misspelt("q2"), misspelt("q3"), misspelt("q3"))
    await stack.put(*conversation("q5"), clicked("q5", "d3", at_s=60), clicked("q5", "d1", at_s=70))
    by_name = {one.event_id: one for one in await stack.listed()}
    await stack.replay(by_name["q1-click"].entry_id, mend=Mend(set={"data.kind": "click"}))
    conflicts = sorted(one.entry_id for one in await stack.listed(reason="conflict"))
    await stack.replay(conflicts[0], new_id=True)
    given_up = Wanted(ids=(by_name["q2-click"].entry_id,))
    async for _ in stack.replaying().discard(given_up, "spam"):
        pass
    await stack.work()
    again = worker(stack.client, AGAIN)
    for topic, records in reversed(stack.log.records.items()):
        messages = messages_of([decode_event(value) for _, value in records])
        if BY_NAME[decode_event(records[0][1]).type].subject is not None:
            messages.reverse()
        for message in messages:
            await again.process(topic, [message])
    rows: Sequence[Any] = [
        stack.client.query(f"SELECT * FROM {views}.rejected ORDER BY entry_id").result_rows
        for views in (LIVE.views, AGAIN.views)
    ]
    assert rows[0] == rows[1]
    assert sorted(row[2] for row in rows[0]) == ["conflict", "invalid_value"]


async def test_a_store_that_is_away_says_so(engine: ClickHouseSettings) -> None:
    away = ClickHouseSettings(url="http://127.0.0.1:9", analyst_password="a")
    wrong = ClickHouseSettings(url=engine.url, analyst_password="wrong")
    for settings in (away, wrong):
        async with AnalystRejected(settings) as entries:
            with pytest.raises(Retryable):
                await entries.entries("acme", EntryFilter(), 1)
