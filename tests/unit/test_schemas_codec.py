"""Evolution in both directions: old bytes with new code, new bytes with old code; and the content hash."""

from __future__ import annotations

import datetime as dt
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from api.http.examples import example_bytes
from ingest.admission import Admission
from ingest.settings import IngestSettings
from schemas.codec import (
    canonical_json,
    content_hash,
    decode_event,
    decode_payload,
    encode_event,
    seal_event,
)
from schemas.envelope import Event
from schemas.errors import Reason, Rejectable
from schemas.interactions import QueryAsked
from schemas.registry import APPLICATION_TYPES, BY_NAME, EVENT_TYPES, EventType, json_schema

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)


def stored_example(event_type: EventType) -> bytes:
    """The example as it lies on the topic."""
    raw = example_bytes(event_type)
    if event_type not in APPLICATION_TYPES:
        return raw
    event = Admission(IngestSettings()).admit(raw, tenant="acme", door="http", received=NOW)
    assert isinstance(event, Event), event
    return encode_event(event)


def every_type(test: Any) -> Any:
    return pytest.mark.parametrize("event_type", EVENT_TYPES, ids=lambda t: t.short)(test)


@every_type
def test_every_example_decodes_and_comes_back(event_type: EventType) -> None:
    event = decode_event(stored_example(event_type))
    payload = decode_payload(event)
    assert isinstance(payload, event_type.payload)
    assert event.type == event_type.name
    assert canonical_json(payload) == canonical_json(msgspec.json.decode(event.data))
    if event_type.subject is not None:
        assert event.subject == getattr(payload, event_type.subject)


@every_type
def test_the_hash_of_every_stored_example_is_its_contents(event_type: EventType) -> None:
    event = decode_event(stored_example(event_type))
    assert event.contenthash == content_hash(event.type, event.time, canonical_json(decode_payload(event)))


@every_type
def test_every_example_fits_its_json_schema(event_type: EventType) -> None:
    schema = json_schema(event_type)
    jsonschema.Draft202012Validator.check_schema(schema)
    data = msgspec.json.decode(example_bytes(event_type))["data"]
    jsonschema.validate(data, schema)
    for name in schema["$defs"][event_type.payload.__name__].get("required", ()):  # type: ignore[index]
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({k: v for k, v in data.items() if k != name}, schema)


def _with_more_everywhere(value: object) -> object:
    """The same value with a field that nobody knows in every object that is a Struct (has a known shape)."""
    if isinstance(value, dict):
        return {**{k: _with_more_everywhere(v) for k, v in value.items()}, "added_later": {"deep": [1]}}
    if isinstance(value, list):
        return [_with_more_everywhere(member) for member in value]
    return value


@every_type
def test_new_bytes_are_read_by_old_code(event_type: EventType) -> None:
    """A later version adds fields to envelope, data and every nested object; this code skips them."""
    old = msgspec.json.decode(stored_example(event_type))
    maps = {
        f.name for f in msgspec.structs.fields(event_type.payload) if str(f.type).find("dict[") >= 0
    }  # free-form maps have no shape that could grow
    data = {k: v if k in maps else _with_more_everywhere(v) for k, v in old["data"].items()}
    new = {**old, "added_later": "x", "data": {**data, "added_later": 1}}
    read = decode_event(msgspec.json.encode(new))
    assert decode_payload(read) == decode_payload(decode_event(stored_example(event_type)))


@every_type
def test_old_bytes_are_read_by_new_code(event_type: EventType) -> None:
    """A later version of the payload, with one more field that has a default, reads today's bytes."""
    grown = msgspec.defstruct(
        "Grown",
        [("added_later", str, "default")],
        bases=(event_type.payload,),
        kw_only=True,
        frozen=True,
        omit_defaults=True,
    )
    event = decode_event(stored_example(event_type))
    read = msgspec.json.decode(event.data, type=grown)
    assert read.added_later == "default"  # type: ignore[attr-defined]
    # A field at its default is not written: the hash of an old event does not change.
    assert canonical_json(read) == canonical_json(decode_payload(event))


def _struct_types(payload: type[Struct]) -> set[type[Struct]]:
    found: set[type[Struct]] = set()

    def visit(annotation: Any) -> None:
        if isinstance(annotation, type) and issubclass(annotation, Struct) and annotation not in found:
            found.add(annotation)
            for field in msgspec.structs.fields(annotation):
                visit(field.type)
        for inner in getattr(annotation, "__args__", ()):
            visit(inner)

    visit(payload)
    return found


@every_type
def test_a_struct_never_forbids_what_it_does_not_know(event_type: EventType) -> None:
    for struct in _struct_types(event_type.payload):
        config = struct.__struct_config__
        assert config.frozen, struct
        assert config.omit_defaults, struct
        assert not config.forbid_unknown_fields, struct


def test_only_what_is_undecodable_is_rejected() -> None:
    event = seal_event(QueryAsked(query_id="q", text="x"), id="1", source="s", tenant="t", recordedtime=NOW)
    for raw in (b"", b"{", b"[]", b"\xff", b'{"specversion":"1.0"}'):
        with pytest.raises(Rejectable) as caught:
            decode_event(raw)
        assert caught.value.reason is Reason.UNDECODABLE
    unknown = msgspec.structs.replace(event, type="ratchet.query.asked.v9")
    with pytest.raises(Rejectable) as caught:
        decode_payload(unknown)
    assert (caught.value.reason, caught.value.field) == (Reason.UNKNOWN_TYPE, "type")
    broken = msgspec.structs.replace(event, data=msgspec.Raw(b'{"query_id":1}'))
    with pytest.raises(Rejectable) as caught:
        decode_payload(broken)
    assert caught.value.reason is Reason.UNDECODABLE


ZONES = st.timezones() | st.integers(-14 * 60, 14 * 60).map(lambda m: dt.timezone(dt.timedelta(minutes=m)))


# Naive bounds: the strategy puts the zone to them.
FIRST, LAST = dt.datetime(1971, 1, 1), dt.datetime(2105, 1, 1)  # noqa: DTZ001


@given(st.datetimes(FIRST, LAST, timezones=ZONES), st.text(max_size=5))
def test_the_hash_does_not_know_zone_door_or_received_time(time: dt.datetime, text: str) -> None:
    payload = QueryAsked(query_id="q", text=text)
    one = seal_event(payload, id="1", source="s", tenant="t", recordedtime=NOW, time=time)
    other = seal_event(
        payload,
        id="2",
        source="s2",
        tenant="t2",
        recordedtime=NOW + dt.timedelta(days=1),
        time=time.astimezone(dt.UTC),
        door="file",
        timetrusted=True,
    )
    assert one.contenthash == other.contenthash
    assert decode_event(encode_event(one)) == one


def test_names_are_unique_and_versioned() -> None:
    assert len(BY_NAME) == len(EVENT_TYPES)
    assert all(name.startswith("ratchet.") and name.endswith(".v1") for name in BY_NAME)
