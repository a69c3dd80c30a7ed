"""Admission: what becomes an event, what does not, and what the refusal says."""

from __future__ import annotations

import datetime as dt
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.examples import example_bytes
from ingest.admission import Admission, Rejection
from ingest.intake import Intake
from ingest.memory import MemoryEventLog
from ingest.settings import IngestSettings
from ingest.strict import MAX_ATTRIBUTES, MAX_ENTRIES, MAX_NAME_CHARACTERS, strict_twin
from ingest.strict_json import MAX_NESTING
from schemas.codec import content_hash, decode_event, encode_event
from schemas.envelope import Event
from schemas.registry import APPLICATION_TYPES, EVENT_TYPES, EventType

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
ADMISSION = Admission(IngestSettings())
SMALL = Admission(IngestSettings(max_event_bytes=4096, max_string_bytes=64))


def admit(event: object, admission: Admission = ADMISSION) -> Event | Rejection:
    raw = event if isinstance(event, bytes) else json.dumps(event).encode()
    return admission.admit(raw, tenant="acme", door="http", received=NOW)


def event_of(short: str, /, **data: Any) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": "e-1",
        "source": "urn:app",
        "type": f"ratchet.{short}.v1",
        "data": {"query_id": "q-1", **data},
    }


def query(**changes: Any) -> dict[str, Any]:
    event = {**event_of("query.asked", text="how"), **changes}
    return {name: value for name, value in event.items() if value is not ...}


def refused(event: object, admission: Admission = ADMISSION) -> Rejection:
    result = admit(event, admission)
    assert isinstance(result, Rejection), result
    assert result.message
    return result


@pytest.mark.parametrize("event_type", APPLICATION_TYPES, ids=lambda t: t.short)
def test_every_example_of_an_application_type_is_admitted(event_type: EventType) -> None:
    event = admit(example_bytes(event_type))
    assert isinstance(event, Event), event
    assert event.type == event_type.name
    assert event.contenthash == content_hash(event.type, event.time, event.data)
    assert decode_event(encode_event(event)) == event


@pytest.mark.parametrize(
    "event_type", [t for t in EVENT_TYPES if t not in APPLICATION_TYPES], ids=lambda t: t.short
)
def test_an_application_cannot_send_the_platforms_own_types(event_type: EventType) -> None:
    example = json.loads(example_bytes(event_type))
    del example["tenant"]
    rejection = refused(example)
    assert (rejection.reason, rejection.field) == ("unknown_type", "type")


ENVELOPES: list[tuple[str, object, str, str]] = [
    ("no object", [1], "invalid_envelope", ""),
    ("no JSON", b"{", "invalid_json", ""),
    ("no UTF-8", b'{"specversion":"1.0","id":"\xff"}', "invalid_json", ""),
    ("a lone surrogate", json.dumps(query()).replace('"how"', '"\\ud800"').encode(), "invalid_json", ""),
    ("nested deeply", b'{"x":' + b"[" * 9999 + b"]" * 9999 + b"}", "too_large", ""),
    (
        "NaN",
        json.dumps(query(data={"query_id": "q", "value": math.nan})).encode(),
        "invalid_value",
        "data.value",
    ),
    ("Infinity", json.dumps(query(data=[{"v": [1, math.inf]}])).encode(), "invalid_value", "data.0.v.1"),
    ("no id", query(id=...), "invalid_envelope", "id"),
    ("empty id", query(id=""), "invalid_envelope", "id"),
    ("id of a wrong type", query(id=5), "invalid_envelope", "id"),
    ("long id", query(id="x" * (MAX_NAME_CHARACTERS + 1)), "invalid_envelope", "id"),
    ("id with a control character", query(id="a\x1fb"), "invalid_envelope", "id"),
    ("no source", query(source=...), "invalid_envelope", "source"),
    ("null source", query(source=None), "invalid_envelope", "source"),
    ("source with a control character", query(source="a\n"), "invalid_envelope", "source"),
    ("old specversion", query(specversion="0.3"), "invalid_envelope", "specversion"),
    ("no specversion", query(specversion=...), "invalid_envelope", "specversion"),
    ("no type", query(type=...), "invalid_envelope", "type"),
    ("a type without its prefix", query(type="query.asked.v1"), "unknown_type", "type"),
    ("a later version", query(type="ratchet.query.asked.v2"), "unknown_type", "type"),
    ("time without offset", query(time="2026-03-02T09:30:00"), "invalid_envelope", "time"),
    ("time as a number", query(time=1772443800), "invalid_envelope", "time"),
    ("no time at all", query(time="yesterday"), "invalid_envelope", "time"),
    ("time before 1970", query(time="1969-12-31T23:59:59Z"), "time_out_of_range", "time"),
    ("time before 1970 by its offset", query(time="1970-01-01T00:30:00+01:00"), "time_out_of_range", "time"),
    ("year 1", query(time="0001-01-01T00:00:00+14:00"), "time_out_of_range", "time"),
    ("year 9999", query(time="9999-12-31T23:59:59-14:00"), "time_out_of_range", "time"),
    ("time after 2105", query(time="2106-01-01T00:00:00Z"), "time_out_of_range", "time"),
    ("another tenant", query(tenant="other"), "invalid_envelope", "tenant"),
    ("XML", query(datacontenttype="application/xml"), "invalid_envelope", "datacontenttype"),
    ("no data", query(data=...), "missing_field", "data"),
    ("binary data", query(data=..., data_base64="eA=="), "invalid_envelope", "data_base64"),
    ("null data", query(data=None), "invalid_value", "data"),
    ("text as data", query(data="x"), "invalid_value", "data"),
]


@pytest.mark.parametrize(
    ("event", "reason", "field"), [e[1:] for e in ENVELOPES], ids=[e[0] for e in ENVELOPES]
)
def test_a_bad_envelope_is_refused_by_name(event: object, reason: str, field: str) -> None:
    rejection = refused(event)
    assert (rejection.reason, rejection.field) == (reason, field)


def nested(depth: int) -> bytes:
    """An event whose extension makes it this deep."""
    return json.dumps(query(x="here")).replace('"here"', "[" * (depth - 1) + "]" * (depth - 1)).encode()


def test_an_event_nests_at_most_64_deep() -> None:
    assert isinstance(admit(nested(MAX_NESTING)), Event)
    rejection = refused(nested(MAX_NESTING + 1))
    assert (rejection.reason, rejection.field) == ("too_large", "")
    assert "at most 64 deep" in rejection.message


def test_brackets_in_texts_are_no_nesting() -> None:
    assert isinstance(admit(query(x='"[{' * 500, data={"query_id": "q-1", "text": "[{" * 500})), Event)


@pytest.mark.parametrize(
    "extensions", [{}, {"subject": "s"}, {"traceparent": 5}, {"a": {"b": [1]}, "z": None}]
)
def test_extensions_are_legal_and_change_nothing(extensions: dict[str, Any]) -> None:
    assert admit(query(**extensions)) == admit(query())


HIT = {"document_id": "d", "rank": 1}
DATA: list[tuple[str, dict[str, Any], str, str]] = [
    ("missing", {"type": "query.asked"}, "missing_field", "data.text"),
    ("unknown", {"type": "query.asked", "text": "x", "qid": 1}, "unknown_field", "data.qid"),
    ("wrong type", {"type": "query.asked", "text": 5}, "invalid_value", "data.text"),
    (
        "empty query_id",
        {"type": "query.asked", "text": "x", "query_id": ""},
        "invalid_value",
        "data.query_id",
    ),
    (
        "long query_id",
        {"type": "query.asked", "text": "x", "query_id": "x" * 257},
        "invalid_value",
        "data.query_id",
    ),
    (
        "control in query_id",
        {"type": "query.asked", "text": "x", "query_id": "\x7f"},
        "invalid_value",
        "data.query_id",
    ),
    (
        "nested attribute",
        {"type": "query.asked", "text": "x", "attributes": {"a": {}}},
        "invalid_value",
        "data.attributes.*",
    ),
    (
        "huge attribute",
        {"type": "query.asked", "text": "x", "attributes": {"a": 2**63}},
        "invalid_value",
        "data.attributes.*",
    ),
    (
        "many attributes",
        {
            "type": "query.asked",
            "text": "x",
            "attributes": dict.fromkeys(map(str, range(MAX_ATTRIBUTES + 1)), 1),
        },
        "invalid_value",
        "data.attributes",
    ),
    (
        "long attribute name",
        {"type": "query.asked", "text": "x", "attributes": {"a" * 257: 1}},
        "invalid_value",
        "data.attributes",
    ),
    (
        "two arms",
        {
            "type": "query.asked",
            "text": "x",
            "exposures": [{"experiment": "e", "arm": "a"}, {"experiment": "e", "arm": "b"}],
        },
        "invalid_value",
        "data.exposures",
    ),
    (
        "unknown in a hit",
        {"type": "retrieval.served", "retrieval_id": "r", "hits": [HIT, {**HIT, "doc": 1}]},
        "unknown_field",
        "data.hits.1.doc",
    ),
    (
        "missing in a hit",
        {"type": "retrieval.served", "retrieval_id": "r", "hits": [{"rank": 1}]},
        "missing_field",
        "data.hits.0.document_id",
    ),
    (
        "rank 0",
        {"type": "retrieval.served", "retrieval_id": "r", "hits": [{**HIT, "rank": 0}]},
        "invalid_value",
        "data.hits.0.rank",
    ),
    (
        "huge rank",
        {"type": "retrieval.served", "retrieval_id": "r", "hits": [{**HIT, "rank": 2**31}]},
        "invalid_value",
        "data.hits.0.rank",
    ),
    (
        "equal ranks",
        {"type": "retrieval.served", "retrieval_id": "r", "hits": [HIT, HIT]},
        "invalid_value",
        "data.hits",
    ),
    (
        "many hits",
        {
            "type": "retrieval.served",
            "retrieval_id": "r",
            "hits": [{**HIT, "rank": i + 1} for i in range(MAX_ENTRIES + 1)],
        },
        "invalid_value",
        "data.hits",
    ),
    (
        "propensity 0",
        {"type": "retrieval.served", "retrieval_id": "r", "hits": [{**HIT, "propensity": 0}]},
        "invalid_value",
        "data.hits.0.propensity",
    ),
    (
        "negative latency",
        {"type": "retrieval.served", "retrieval_id": "r", "latency_ms": -1},
        "invalid_value",
        "data.latency_ms",
    ),
    (
        "fractional tokens",
        {"type": "answer.given", "answer_id": "a", "input_tokens": 1.5},
        "invalid_value",
        "data.input_tokens",
    ),
    ("unknown kind", {"type": "feedback.given", "kind": "like"}, "invalid_value", "data.kind"),
    ("thumb without value", {"type": "feedback.given", "kind": "thumb"}, "missing_field", "data.value"),
    ("thumb 5", {"type": "feedback.given", "kind": "thumb", "value": 5}, "invalid_value", "data.value"),
    ("thumb 0", {"type": "feedback.given", "kind": "thumb", "value": 0}, "invalid_value", "data.value"),
    ("stars 0", {"type": "feedback.given", "kind": "stars", "value": 0}, "invalid_value", "data.value"),
    ("stars 6", {"type": "feedback.given", "kind": "stars", "value": 5.1}, "invalid_value", "data.value"),
    ("label 2", {"type": "feedback.given", "kind": "label", "value": 2}, "invalid_value", "data.value"),
    (
        "negative dwell",
        {"type": "feedback.given", "kind": "dwell", "value": -0.1},
        "invalid_value",
        "data.value",
    ),
    ("score without value", {"type": "feedback.given", "kind": "score"}, "missing_field", "data.value"),
    (
        "value as text",
        {"type": "feedback.given", "kind": "score", "value": "1"},
        "invalid_value",
        "data.value",
    ),
    (
        "blank comment",
        {"type": "feedback.given", "kind": "comment", "text": " "},
        "missing_field",
        "data.text",
    ),
    ("click on nothing", {"type": "feedback.given", "kind": "click"}, "invalid_value", "data.target.kind"),
    (
        "click on a nameless document",
        {"type": "feedback.given", "kind": "click", "target": {"kind": "document"}},
        "missing_field",
        "data.target.document_id",
    ),
    (
        "document under a wrong kind",
        {"type": "feedback.given", "kind": "click", "target": {"document_id": "d"}},
        "invalid_value",
        "data.target.kind",
    ),
    (
        "nameless answer",
        {"type": "feedback.given", "kind": "thumb", "value": 1, "target": {"kind": "answer"}},
        "missing_field",
        "data.target.answer_id",
    ),
    (
        "unknown in target",
        {"type": "feedback.given", "kind": "thumb", "value": 1, "target": {"document": "d"}},
        "unknown_field",
        "data.target.document",
    ),
    (
        "retracts nothing",
        {"type": "feedback.retracted", "feedback_source": "s"},
        "missing_field",
        "data.feedback_id",
    ),
    (
        "retracts an empty id",
        {"type": "feedback.retracted", "feedback_source": "s", "feedback_id": ""},
        "invalid_value",
        "data.feedback_id",
    ),
]


@pytest.mark.parametrize(("data", "reason", "field"), [d[1:] for d in DATA], ids=[d[0] for d in DATA])
def test_bad_data_is_refused_by_field(data: dict[str, Any], reason: str, field: str) -> None:
    data = dict(data)
    rejection = refused(event_of(data.pop("type"), **data))
    assert (rejection.reason, rejection.field) == (reason, field)
    assert (rejection.source, rejection.id) == ("urn:app", "e-1")


GOOD: list[tuple[str, dict[str, Any]]] = [
    ("a click by rank", {"kind": "click", "target": {"kind": "document", "rank": 3}}),
    ("a thumb for the query", {"kind": "thumb", "value": -1}),
    ("half a star", {"kind": "stars", "value": 3.5}),
    ("a score", {"kind": "score", "value": -17.5, "name": "faithfulness", "rater": "llm"}),
    ("dwelling", {"kind": "dwell", "value": 0, "target": {"kind": "document", "document_id": "d"}}),
    ("a comment", {"kind": "comment", "text": "no", "target": {"kind": "answer", "answer_id": "a"}}),
    ("leaving", {"kind": "abandonment"}),
]


@pytest.mark.parametrize("data", [g[1] for g in GOOD], ids=[g[0] for g in GOOD])
def test_good_feedback_is_admitted(data: dict[str, Any]) -> None:
    assert isinstance(admit(event_of("feedback.given", **data)), Event)


@pytest.mark.parametrize(
    "changes",
    [
        {
            "traceparent": "00-4bf9",
            "dataschema": "https://x",
            "subject": "mine",
            "recordedtime": "2020-01-01T00:00:00Z",
        },
        {"tenant": "acme"},
        {"time": None, "datacontenttype": None, "tenant": None},
        {"datacontenttype": "application/vnd.shop+json; charset=utf-8"},
        {"time": "2026-03-02T10:30:00.5+01:00"},
        {"id": "ünï cødé · 漢"},
    ],
)
def test_legal_envelopes_are_admitted(changes: dict[str, Any]) -> None:
    event = admit(query(**changes))
    assert isinstance(event, Event), event
    assert event.recordedtime == NOW
    assert event.subject == "q-1"
    assert event.tenant == "acme"
    assert event.time is None or event.time.utcoffset() == dt.timedelta(0)


def test_a_suggestion_is_made_at_the_right_depth() -> None:
    hits = [{"document_id": "d", "rank": 1, "propensty": 0.5}]
    assert (
        "did you mean 'propensity'?"
        in refused(event_of("retrieval.served", retrieval_id="r", hits=hits)).message
    )
    assert "did you mean 'ratchet.query.asked.v1'?" in refused(query(type="ratchet.query.ask.v1")).message


def test_long_texts_are_refused_by_bytes_and_by_path() -> None:
    assert isinstance(admit(event_of("query.asked", text="é" * 32), SMALL), Event)
    rejection = refused(event_of("query.asked", text="é" * 33), SMALL)
    assert (rejection.reason, rejection.field) == ("too_large", "data.text")
    hits = [{"document_id": "d", "rank": 1, "text_hash": "x" * 65}]
    assert (
        refused(event_of("retrieval.served", retrieval_id="r", hits=hits), SMALL).field
        == "data.hits.0.text_hash"
    )
    assert refused(event_of("query.asked", text="x" * 5000), SMALL).reason == "too_large"


def test_equal_values_give_equal_hashes_however_they_are_written() -> None:
    head = b'"specversion":"1.0","id":"1","source":"s","type":"ratchet.query.asked.v1"'
    one = admit(
        b'{%s,"time":"2026-01-01T00:00:00Z",' % head
        + b'"data":{"query_id":"q","text":"\\u0061","attributes":{"b":1,"a":2}}}'
    )
    two = admit(
        b'{"data": {"attributes": {"a": 2, "b": 1}, "user": null, "text": "a", "query_id": "q"}, '
        + b'"time": "2026-01-01T01:00:00+01:00", %s}' % head
    )
    assert isinstance(one, Event)
    assert isinstance(two, Event)
    assert one.contenthash == two.contenthash


@pytest.mark.parametrize("event_type", APPLICATION_TYPES, ids=lambda t: t.short)
def test_a_twin_has_the_fields_of_its_payload(event_type: EventType) -> None:
    twin = {f.encode_name: f.required for f in msgspec.structs.fields(strict_twin(event_type.payload))}
    assert twin == {f.encode_name: f.required for f in msgspec.structs.fields(event_type.payload)}


def test_a_long_event_that_is_no_utf8_is_refused() -> None:
    raw = json.dumps(event_of("query.asked", text="x" * 60)).encode().replace(b"xxx", b"x\xffx", 1)
    assert (refused(raw, SMALL).reason, refused(raw).reason) == ("invalid_json", "invalid_json")


def test_no_depth_raises() -> None:
    head = json.dumps(query())[:-1].encode()
    reasons = set()
    for depth in (*range(60, 70), *range(700, 1001)):
        result = admit(head + b',"x":' + b"[" * depth + b"1" + b"]" * depth + b"}", SMALL)
        reasons.add(result.reason if isinstance(result, Rejection) else "")
    assert reasons == {"", "too_large"}


@given(st.binary(max_size=200))
def test_no_bytes_raise(raw: bytes) -> None:
    assert isinstance(admit(raw), Rejection)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3)
JSON = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.sampled_from("abc"), SCALARS, max_size=2)
FIELDS = sorted({f.name for t in APPLICATION_TYPES for f in msgspec.structs.fields(t.payload)})


@given(
    st.sampled_from(APPLICATION_TYPES),
    st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=4),
    st.dictionaries(
        st.sampled_from(["id", "source", "time", "data", "tenant", "specversion"]), JSON, max_size=2
    ),
)
def test_no_event_raises_and_what_is_admitted_can_be_read(
    event_type: EventType, data: dict[str, Any], envelope: dict[str, Any]
) -> None:
    example = msgspec.json.decode(example_bytes(event_type))
    raw = msgspec.json.encode({**example, "data": {**example["data"], **data}, **envelope})
    result = admit(raw)
    if isinstance(result, Event):
        assert decode_event(encode_event(result)) == result
    else:
        assert result.reason
        assert result.message


async def test_the_events_of_a_request_keep_their_order_in_received_time() -> None:
    log = MemoryEventLog()
    raws = [
        msgspec.json.encode(
            {
                "specversion": "1.0",
                "id": f"e{number}",
                "source": "app",
                "type": "ratchet.document.stored.v1",
                "data": {"document_id": "d", "text": f"text {number}"},
            }
        )
        for number in range(5)
    ]
    received = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
    await Intake(log, IngestSettings(), code_version="t").take(
        raws, tenant="acme", door="http", received=received
    )
    times = sorted(decode_event(value).recordedtime for _, value in log.records["documents"])
    ids = [decode_event(value).id for _, value in log.records["documents"]]
    assert ids == ["e0", "e1", "e2", "e3", "e4"]
    assert len(set(times)) == 5
    assert times[0] == received
