"""Mends and replays over a log in memory: what passes, what does not and why, and that twice is once."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.memory import MemoryEventLog
from ingest.mending import Mend, merge_patch
from ingest.replay import Kept, Person, Replays, Trial, told
from ingest.settings import IngestSettings
from schemas.codec import decode_event, decode_payload, encode_event
from schemas.envelope import Event
from schemas.errors import Reason, Rejectable
from schemas.lifecycle import RejectionDiscarded, RejectionReplayed
from schemas.lifecycle_state import apply
from schemas.rejections import CONFLICT, RejectedEntry, rejection_entry_id
from schemas.tenant_state import LifecycleState
from streams.ports import Message
from streams.rejecting import read_messages
from tests.small_log import clicked, sealed, stored

NOW = dt.datetime(2026, 7, 1, 12, tzinfo=dt.UTC)
SETTINGS = IngestSettings()
PERSON = Person("urn:ratchet:person:ada", "ratchet rejected replay", "cli")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def thumb(**data: Any) -> dict[str, Any]:
    """A CloudEvent with an unknown kind of feedback."""
    return {
        "specversion": "1.0",
        "id": "f-1",
        "source": "shop",
        "type": "ratchet.feedback.given.v1",
        "time": "2026-06-30T10:00:00Z",
        "data": {"query_id": "q-1", "kind": "thumbs", "target": {"kind": "query"}, "value": 1, **data},
    }


def kept(original: object, **fields: Any) -> Kept:
    content = original if isinstance(original, bytes) else json.dumps(original).encode()
    entry = RejectedEntry(
        entry_id=rejection_entry_id("acme", content),
        **{
            "reason": "invalid_value",
            "door": "http",
            "received_time": NOW,
            "last_received_time": NOW,
            "original_length": len(content),
            **fields,
        },
    )
    return Kept(entry, content)


def attempt(one: Kept, mend: Mend | None = None, **more: Any) -> Any:
    return Trial(SETTINGS).attempt(one, tenant="acme", received=NOW, mend=mend or Mend(), **more)


# ---------------------------------------------------------------- mends


@pytest.mark.parametrize(
    ("target", "patch", "merged"),
    [  # RFC 7396, appendix A
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patches_do_as_the_standard_says(target: Any, patch: Any, merged: Any) -> None:
    assert merge_patch(target, patch) == merged


@given(JSON, JSON)
def test_a_merge_patch_applied_again_changes_nothing(target: Any, patch: Any) -> None:
    once = merge_patch(target, patch)
    assert merge_patch(once, patch) == once


def test_fields_are_renamed_mapped_set_and_dropped_in_this_order() -> None:
    original = {"data": {"typ": "up", "hits": [{"rnk": 1}, {"rank": 2}], "junk": 1}, "n": 1}
    mend = Mend(
        rename={"data.typ": "data.kind", "data.hits.0.rnk": "data.hits.0.rank", "no.such": "data.x"},
        values={"data.kind": {"up": "thumb"}, "n": {"1": "one"}, "gone": {"a": "b"}},
        set={"data.value": 1, "data.target.kind": "query"},
        drop=("data.junk", "data.no"),
        patch={"n": None},
    )
    assert json.loads(mend.apply(json.dumps(original).encode())) == {
        "data": {
            "kind": "thumb",
            "hits": [{"rank": 1}, {"rank": 2}],
            "value": 1,
            "target": {"kind": "query"},
        }
    }


def test_nothing_to_change_leaves_the_very_bytes() -> None:
    assert Mend().apply(b'{ "a":1e2}') == b'{ "a":1e2}'


@given(
    original=JSON,
    path=st.text("ab.0", max_size=6),
    value=JSON,
)
def test_no_mend_raises_anything_but_a_refusal(original: Any, path: str, value: Any) -> None:
    mend = Mend(rename={path: "a.b"}, values={path: {"a": value}}, set={path: value}, drop=(path,))
    with contextlib.suppress(Rejectable):
        json.loads(mend.apply(json.dumps(original).encode()))


@pytest.mark.parametrize(
    "mend", [Mend(set={"a" + ".a" * 5000: 1}), Mend(set={"data.9" + "9" * 5000: 1}), Mend(set={"id.x": 1})]
)
def test_a_path_that_cannot_be_is_refused(mend: Mend) -> None:
    with pytest.raises(Rejectable):
        mend.apply(b'{"id": "a", "data": [1]}')


# ---------------------------------------------------------------- attempts


def test_what_passes_keeps_its_identity_and_gets_a_new_received_time() -> None:
    tried = attempt(kept(thumb()), Mend(set={"data.kind": "thumb"}))
    (event,) = tried.events
    assert (event.source, event.id, event.subject, event.door) == ("shop", "f-1", "q-1", "replay")
    assert (event.recordedtime, event.time) == (NOW, dt.datetime(2026, 6, 30, 10, tzinfo=dt.UTC))
    assert told(tried).status == "would_pass"


def test_what_does_not_pass_says_why() -> None:
    result = told(attempt(kept(thumb())))
    assert (result.status, result.reason, result.field) == ("would_fail", "invalid_value", "data.kind")


def test_what_is_no_json_needs_the_whole_event() -> None:
    broken = kept(b"{nonsense", reason="invalid_json")
    assert "whole event" in told(attempt(broken, Mend(set={"id": "x"}))).message
    whole = msgspec.Raw(json.dumps(thumb(kind="thumb")).encode())
    assert told(attempt(broken, Mend(whole=whole))).status == "would_pass"


def test_what_was_cut_is_not_sent() -> None:
    cut = kept(json.dumps(thumb(kind="thumb")).encode(), replayable=False, original_length=5_000_000)
    result = told(attempt(cut))
    assert (result.status, result.reason) == ("would_fail", "too_large")
    assert "5,000,000 bytes" in result.message


def test_originals_of_other_formats_are_read_by_their_format() -> None:
    score = {"id": "s-1", "traceId": "t-1", "name": "helpful", "value": "much", "dataType": "NUMERIC"}
    entry = kept(score, headers={"format": "langfuse"}, door="langfuse")
    assert told(attempt(entry)).status == "would_fail"
    (event,) = attempt(entry, Mend(set={"value": 0.5})).events
    assert event.data
    assert b"0.5" in bytes(event.data)


def test_binary_data_is_mended_by_a_patch() -> None:
    original = {**thumb(), "data_base64": base64.b64encode(b"kind=thumb").decode()}
    del original["data"]
    patch = {"data": thumb(kind="thumb")["data"], "data_base64": None}
    assert told(attempt(kept(original), Mend(patch=patch))).status == "would_pass"


def conflict(event: Event, **fields: Any) -> Kept:
    return kept(
        encode_event(event),
        reason=CONFLICT,
        event_source=event.source,
        event_id=event.id,
        subject=event.subject,
        **fields,
    )


@pytest.mark.parametrize("event", [clicked("q1", timetrusted=True), stored("d1", "text", "e1")])
def test_a_conflict_passes_under_a_new_id_only_always_the_same(event: Event) -> None:
    one = conflict(event)
    result = told(attempt(one))
    assert (result.status, result.field) == ("would_fail", "id")
    assert "--new-id" in result.message
    (first,), (second,) = attempt(one, new_id=True).events, attempt(one, new_id=True).events
    assert first == second
    assert first.id != event.id
    assert (first.source, first.subject, first.contenthash) == (
        event.source,
        event.subject,
        event.contenthash,
    )
    assert first.timetrusted is event.timetrusted
    assert attempt(one, Mend(set={"id": "other"})).why is None


@pytest.mark.parametrize(
    ("door", "trusted"), [("file", True), ("http", False), ("streams", True), ("", False)]
)
def test_times_are_trusted_as_the_door_trusted_them(door: str, trusted: bool) -> None:
    # a caller cannot vouch for its own time: only a record of ours says so
    original = {**thumb(kind="thumb"), "timetrusted": True}
    assert attempt(kept(original, door=door)).timetrusted is trusted


def test_an_entry_of_the_worker_is_replayed_as_its_record_was() -> None:
    event = clicked("q1")
    (again,) = attempt(kept(encode_event(event), reason="fold_failed", door="streams")).events
    assert again.identity == event.identity
    assert again.contenthash == event.contenthash


def test_a_record_of_an_unknown_type_keeps_its_names() -> None:
    record = encode_event(clicked("q1")).replace(b"feedback.given.v1", b"feedback.given.v9")
    _, (entry,) = read_messages([Message("interactions", 0, 0, b"acme/q1", record, 1_780_000_000_000)])
    payload: Any = decode_payload(entry)
    assert (payload.reason, payload.replayable) == (Reason.UNKNOWN_TYPE, True)
    assert (payload.event_source, payload.event_id) == ("shop", "q1-click")
    assert payload.event_type == "ratchet.feedback.given.v9"


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_no_bytes_raise(original: bytes, whole: bytes) -> None:
    attempt(kept(original))
    attempt(kept(original, headers={"format": "langfuse"}), new_id=True)
    attempt(kept(original), Mend(set={"id": "x"}, patch={"data": {}}))
    attempt(kept(original), Mend(whole=msgspec.Raw(whole)), new_id=True)


# ---------------------------------------------------------------- sending


def events_of(log: MemoryEventLog, topic: str) -> list[Event]:
    return [decode_event(value) for _, value in log.records.get(topic, ())]


def replays(log: MemoryEventLog) -> Replays:
    return Replays(log, SETTINGS, code_version="0.1.0")


async def test_the_event_goes_first_then_that_it_was_replayed_and_twice_is_once() -> None:
    log = MemoryEventLog()
    good, bad = kept(thumb()), kept(thumb(kind="other"), headers={})
    mend = Mend(values={"data.kind": {"thumbs": "thumb"}})
    for _ in range(2):
        attempts = [attempt(bad, mend), attempt(good, mend)]
        results = await replays(log).send(attempts, tenant="acme", received=NOW, person=PERSON)
        assert [one.status for one in results] == ["would_fail", "replayed"]
    assert list(log.records) == ["interactions", "lifecycle"]
    first, second = events_of(log, "interactions")
    assert (first.identity, first.contenthash) == (second.identity, second.contenthash)
    state, accepted = LifecycleState(), []
    for step in events_of(log, "lifecycle"):
        assert decode_payload(step) == RejectionReplayed(
            entry_id=good.entry.entry_id, event_source="shop", event_id="f-1", subject="q-1"
        )
        assert step.causationid == "ratchet rejected replay"
        state, outcome = apply(state, step)
        accepted.append(outcome.accepted)
    assert accepted == [True, False]


async def test_nothing_is_noted_of_an_event_that_is_not_confirmed() -> None:
    log = MemoryEventLog()
    log.confirming = False
    tried = [attempt(kept(thumb(kind="thumb")))]
    (result,) = await replays(log).send(tried, tenant="acme", received=NOW, person=PERSON)
    assert (result.status, list(log.records)) == ("unconfirmed", ["interactions"])


async def test_times_that_are_trusted_and_others_go_together() -> None:
    log = MemoryEventLog()
    entries = [
        kept(thumb(kind="thumb", query_id=f"q-{n}"), door="file" if n % 2 else "http") for n in range(5)
    ]
    results = await replays(log).send(
        [attempt(one) for one in entries], tenant="acme", received=NOW, person=PERSON
    )
    assert [one.entry_id for one in results] == [one.entry.entry_id for one in entries]
    sent = {event.subject: event for event in events_of(log, "interactions")}
    assert {name: event.timetrusted for name, event in sent.items()} == {
        f"q-{n}": bool(n % 2) for n in range(5)
    }
    assert len({event.recordedtime for event in sent.values()}) == 5


async def test_an_answer_names_its_query_again() -> None:
    log = MemoryEventLog()
    answer = {**thumb(), "type": "ratchet.answer.given.v1", "data": {"query_id": "q", "answer_id": "a"}}
    answer["data"]["text"] = "yes"
    await replays(log).send([attempt(kept(answer))], tenant="acme", received=NOW, person=PERSON)
    assert [event.type for event in events_of(log, "waiting")] == ["ratchet.query.named.v1"]


async def test_a_discard_is_an_event_and_twice_is_once() -> None:
    log = MemoryEventLog()
    entry = kept(thumb()).entry
    for _ in range(2):
        (done,) = await replays(log).discard(
            [entry], tenant="acme", received=NOW, person=PERSON, reason="spam"
        )
        assert done.confirmed
    first, second = events_of(log, "lifecycle")
    assert first.id == second.id
    assert decode_payload(first) == RejectionDiscarded(entry_id=entry.entry_id, reason="spam")


def test_a_type_of_the_platform_cannot_be_replayed() -> None:
    record = sealed(RejectionDiscarded(entry_id="x", reason="y"), "e")
    result = told(attempt(kept(encode_event(record), door="streams", reason="fold_failed")))
    assert (result.status, result.reason) == ("would_fail", "unknown_type")
