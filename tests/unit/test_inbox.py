"""The inbox over a log in memory: how a record is read, when it was received, what a kill does."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from typing import Any, Final

import msgspec
import pytest
from cloudevents.core.bindings import kafka as core
from cloudevents.core.v1.event import CloudEvent
from cloudevents.v1 import kafka as old
from cloudevents.v1.http import CloudEvent as OldCloudEvent
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from api.processes.inbox import Following, InboxMetrics
from ingest.formats.items import Undecoded
from ingest.formats.kafka import Headers, read_message
from ingest.inbox import InboxTaker, kept_headers
from ingest.intake import Intake
from ingest.memory import MemoryEventLog, MemoryInbox
from ingest.ports import InboxRecord
from ingest.settings import IngestSettings
from schemas.codec import decode_event, decode_payload
from schemas.envelope import Event
from schemas.errors import Reason, Retryable
from schemas.rejections import EventRejected
from tests.unit.http_door import NOW, query

STRUCTURED: Final = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)


def binary(prefix: str = "ce_", **attributes: str) -> tuple[tuple[str, bytes], ...]:
    named = {"specversion": "1.0", "id": "e-1", "source": "urn:app", "type": "ratchet.query.asked.v1"}
    headers = [
        (f"{prefix}{name}", value.encode()) for name, value in {**named, **attributes}.items() if value
    ]
    return (*headers, ("content-type", b"application/json"))


DATA: Final = json.dumps({"query_id": "q-1", "text": "où?"}).encode()


class Broken(MemoryEventLog):
    """A log that confirms nothing for a while, and counts how often it was asked."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self.confirming = False
        self._failures = failures

    async def append(self, events: Any) -> Any:
        results = await super().append(events)
        self._failures -= 1
        self.confirming = self._failures <= 0
        return results


class Application:
    """An inbox, a log, and what reads the one into the other."""

    def __init__(self, log: MemoryEventLog | None = None) -> None:
        self.inbox = MemoryInbox()
        self.log = log or MemoryEventLog()
        self.time = NOW
        self.pauses: list[float] = []
        self.registry = CollectorRegistry()
        intake = Intake(self.log, IngestSettings(), code_version="1")
        self.taker = InboxTaker(
            intake,
            now=lambda: self.time,
            pause=self._pause,
            observe=InboxMetrics(self.registry).observe,
            tries=5,
        )
        self._offset = 0

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def write(
        self, value: bytes | None, headers: Headers = (), *, appended: dt.datetime | None = None
    ) -> InboxRecord:
        record = InboxRecord(
            tenant="acme",
            topic="inbox.acme",
            partition=0,
            offset=self._offset,
            value=value,
            headers=tuple(headers),
            appended=appended,
        )
        self._offset += 1
        self.inbox.put(record)
        return record

    async def run(self) -> None:
        """Take in and commit what is there."""
        records = await self.inbox.fetch(0)
        await self.taker.take(records)
        await self.inbox.commit(records)

    def events(self, topic: str = "interactions") -> list[Event]:
        return [decode_event(value) for _, value in self.log.records.get(topic, ())]

    def rejections(self) -> list[EventRejected]:
        return [msgspec.convert(decode_payload(event), EventRejected) for event in self.events("rejected")]

    def counted(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(f"ratchet_ingest_{name}_total", labels)


@pytest.mark.parametrize(
    ("headers", "value"),
    [
        (STRUCTURED, json.dumps(query()).encode()),
        (
            (("Content-Type", b"application/cloudevents+json"), *binary(id="another")),
            json.dumps(query()).encode(),
        ),
        ((("content-type", b"application/json"),), json.dumps(query()).encode()),
        ((), json.dumps(query()).encode()),
        (
            binary(time="2026-03-02T09:29:59Z", partitionkey="x"),
            b'{"query_id": "q-1", "text": "how do I pay"}',
        ),
        (binary("ce-", time="2026-03-02T09:29:59Z"), b'{"query_id": "q-1", "text": "how do I pay"}'),
    ],
    ids=[
        "structured",
        "structured beside attributes",
        "as version 1 wrote it",
        "bare",
        "binary",
        "with dashes",
    ],
)
async def test_every_way_to_write_it_is_the_same_event(headers: Headers, value: bytes) -> None:
    application = Application()
    application.write(value, headers)
    await application.run()
    (event,) = application.events()
    assert (event.id, event.source, event.subject, event.tenant) == ("e-1", "urn:app", "q-1", "acme")
    assert (event.door, event.recordedtime, event.time) == ("kafka", NOW, NOW - dt.timedelta(seconds=1))
    ((key, _),) = application.log.records["interactions"]
    assert key == b"acme/q-1"
    assert application.inbox.committed == {("inbox.acme", 0): 1}


async def test_attributes_are_utf8_as_they_are() -> None:
    application = Application()
    application.write(DATA, binary(source="urn:größe%20x"))
    await application.run()
    (event,) = application.events()
    assert event.source == "urn:größe%20x"


ATTRIBUTES: Final[dict[str, Any]] = {
    "id": "e-1",
    "source": "urn:größe x%20",
    "type": "ratchet.query.asked.v1",
    "time": NOW,
    "partitionkey": "their own",
    "datacontenttype": "application/json",
}


@pytest.mark.parametrize("write", [core.to_binary_event, core.to_structured_event])
async def test_what_the_cloudevents_library_writes(write: Any) -> None:
    application = Application()
    message = write(CloudEvent(ATTRIBUTES, json.loads(DATA)))
    application.write(message.value, list(message.headers.items()))
    await application.run()
    (event,) = application.events()
    assert (event.id, event.source, event.subject, event.time) == ("e-1", "urn:größe x%20", "q-1", NOW)


@pytest.mark.parametrize("write", [old.to_binary, old.to_structured])
async def test_what_its_first_version_writes(write: Any) -> None:
    application = Application()
    message = write(OldCloudEvent({**ATTRIBUTES, "time": NOW.isoformat()}, json.loads(DATA)))
    application.write(message.value, list(message.headers.items()))
    await application.run()
    (event,) = application.events()
    assert (event.id, event.source, event.subject, event.time) == ("e-1", "urn:größe x%20", "q-1", NOW)


@pytest.mark.parametrize(
    ("headers", "value", "reason", "field"),
    [
        (STRUCTURED, b"nonsense", Reason.INVALID_JSON, ""),
        (STRUCTURED, b"", Reason.INVALID_JSON, ""),
        ((), b"\xff\xfe", Reason.INVALID_JSON, ""),
        (binary(id=""), DATA, Reason.INVALID_ENVELOPE, "id"),
        (binary(), b"nonsense", Reason.INVALID_JSON, "data"),
        (binary(), None, Reason.MISSING_FIELD, "data"),
        ((*binary(), ("ce_id", b"twice")), DATA, Reason.INVALID_ENVELOPE, "id"),
        ((*binary(source=""), ("ce_source", b"\xff")), DATA, Reason.INVALID_ENVELOPE, "source"),
        ((*binary(), ("ce_No", b"x")), DATA, Reason.INVALID_ENVELOPE, "No"),
        (
            (("content-type", b"application/cloudevents-batch+json"),),
            b"[]",
            Reason.INVALID_ENVELOPE,
            "content-type",
        ),
        (binary(tenant="other"), DATA, Reason.INVALID_ENVELOPE, "tenant"),
    ],
)
async def test_what_is_no_event_is_kept_with_where_it_was(
    headers: Headers, value: bytes | None, reason: Reason, field: str
) -> None:
    application = Application()
    application.write(value, (*headers, ("trace", b"t-1")))
    await application.run()
    (entry,) = application.rejections()
    assert (entry.reason, entry.field) == (reason, field)
    assert entry.headers["position"] == "inbox.acme/0/0"
    assert entry.headers["trace"] == "t-1"
    assert application.counted("rejections", reason=reason.value) == 1
    if not any(name.startswith("ce_") for name, _ in headers):
        assert entry.original == value


async def test_a_refused_record_in_binary_mode_is_kept_as_an_event_that_can_be_mended() -> None:
    application = Application()
    application.write(DATA, binary(type="ratchet.query.ask.v1"))
    await application.run()
    (entry,) = application.rejections()
    assert (entry.event_source, entry.event_id, entry.reason) == ("urn:app", "e-1", Reason.UNKNOWN_TYPE)
    kept = json.loads(entry.original)
    assert kept["data"] == json.loads(DATA)
    application.write(json.dumps({**kept, "type": "ratchet.query.asked.v1"}).encode())
    await application.run()
    assert [event.id for event in application.events()] == ["e-1"]


async def test_a_tombstone_is_counted_and_passed_over() -> None:
    application = Application()
    application.write(None)
    application.write(b"")
    application.write(json.dumps(query()).encode())
    await application.run()
    assert len(application.events()) == 1
    assert not application.rejections()
    assert application.counted("ignored", door="kafka") == 2
    assert application.counted("events", door="kafka", status="accepted") == 1
    assert application.inbox.committed == {("inbox.acme", 0): 3}


@pytest.mark.parametrize("by_broker", [True, False])
async def test_killed_between_append_and_commit_the_same_events_come_again(by_broker: bool) -> None:
    application = Application()
    appended = NOW if by_broker else None
    for number in range(3):
        application.write(json.dumps(query(number)).encode(), appended=appended)
    application.write(b"nonsense", appended=appended)
    await application.taker.take(await application.inbox.fetch(0))
    application.inbox.lose_member()
    application.time += dt.timedelta(minutes=1)
    await application.run()
    values = [value for _, value in application.log.records["interactions"]]
    assert len(values) == 6
    # with the broker's time a record taken twice gives the same bytes; without, only the same event
    assert (values[:3] == values[3:]) is by_broker
    events = application.events()
    identities = {(event.identity, event.contenthash) for event in events}
    assert len(identities) == 3
    assert len({event.id for event in application.events("rejected")}) == 1
    assert application.inbox.committed == {("inbox.acme", 0): 4}


async def test_received_times_follow_the_order_of_a_partition() -> None:
    application = Application()
    for number in range(5):
        application.write(json.dumps(query(number)).encode(), appended=NOW if number < 3 else None)
    await application.run()
    times = [event.recordedtime for event in application.events()]
    assert times[:3] == sorted(set(times[:3]))
    assert times[3:] == sorted(set(times[3:]))


async def test_only_what_is_not_confirmed_is_tried_again() -> None:
    application = Application(Broken(failures=3))
    application.write(json.dumps(query()).encode())
    await application.run()
    assert len(application.pauses) == 3
    assert len(set(application.log.records["interactions"])) == 1
    assert application.counted("events", door="kafka", status="unconfirmed") == 3


async def test_nothing_is_committed_while_the_log_confirms_nothing() -> None:
    application = Application(Broken(failures=99))
    application.write(json.dumps(query()).encode())
    with pytest.raises(Retryable, match="nothing of the batch is committed"):
        await application.run()
    assert not application.inbox.committed


async def test_it_finishes_the_batch_in_hand_when_it_is_told_to_stop() -> None:
    application = Application()
    application.write(json.dumps(query()).encode())
    told = asyncio.Event()
    observed = application.log.append

    async def append(events: Any) -> Any:
        told.set()
        return await observed(events)

    application.log.append = append  # type: ignore[method-assign]
    following = Following(application.inbox, application.taker, now=lambda: NOW)
    await asyncio.wait_for(following.run(told), 10)
    assert application.inbox.committed == {("inbox.acme", 0): 1}
    assert following.stuck() is None


@pytest.mark.parametrize("by_broker", [True, False])
async def test_how_long_the_oldest_record_waits_is_shown(by_broker: bool) -> None:
    """By the broker's time, which a kill does not start anew, or since it was fetched."""
    application, place = Application(Broken(failures=99)), ("inbox.acme", 0)
    hour, minute = dt.timedelta(hours=1), dt.timedelta(minutes=1)
    for came in (NOW - hour, NOW - minute):
        application.write(json.dumps(query()).encode(), appended=came if by_broker else None)
    following = Following(application.inbox, application.taker, now=lambda: application.time)
    with pytest.raises(Retryable):
        await following.run(asyncio.Event())
    application.time += minute
    ages_s = following.ages_s({place: 2, ("inbox.acme", 1): 0})
    assert ages_s == {place: 61 * 60.0 if by_broker else 60.0, ("inbox.acme", 1): 0}
    registry = CollectorRegistry()
    InboxMetrics(registry).observe_lag({place: 2}, ages_s)
    labels = {"topic": "inbox.acme", "partition": "0"}
    shown = registry.get_sample_value
    assert shown("ratchet_inbox_lag_events", labels) == 2
    assert shown("ratchet_inbox_lag_seconds", labels) == ages_s[place]
    # all is taken in; the next record is another one
    assert following.ages_s({place: 0}) == {place: 0}
    assert following.ages_s({place: 1}) == {place: 0}


def test_headers_that_are_kept_are_bounded() -> None:
    many = tuple((f"h{number}" * 200, b"\xff" * 5_000) for number in range(500))
    record = InboxRecord(tenant="acme", topic="inbox.acme", partition=0, offset=0, value=b"", headers=many)
    assert len(msgspec.json.encode(kept_headers(record))) < 100_000


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.sampled_from(["ce_id", "ce-id", "ce_", "content-type", "CE_X"]), st.text(max_size=5)
            ),
            st.one_of(st.none(), st.binary(max_size=20), st.just(b"application/cloudevents+json")),
        ),
        max_size=6,
    ),
    st.one_of(st.none(), st.binary(max_size=30), st.just(DATA)),
)
def test_no_record_can_stop_the_reader(headers: list[tuple[str, bytes | None]], value: bytes | None) -> None:
    item = read_message(headers, value)
    if isinstance(item, Undecoded):
        assert item.why.message
    elif item is None:
        assert not value
