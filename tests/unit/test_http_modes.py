"""CloudEvents in binary mode and a line each: the same events as structured ones."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.formats.cloudevents import compose_http, split_lines
from ingest.formats.items import Undecoded
from ingest.settings import IngestSettings
from tests.unit.http_door import ACME, ONE, Site, query

LINES = {**ACME, "content-type": "application/x-ndjson"}


@pytest.fixture
def site() -> Site:
    return Site()


def binary(event: dict[str, Any], **changes: str) -> dict[str, str]:
    """The headers of an event in binary mode."""
    attributes = {name: str(value) for name, value in event.items() if name != "data"}
    return {
        **ACME,
        "content-type": "application/json",
        **{f"ce-{name}": quote(value, safe=" :/-_.") for name, value in {**attributes, **changes}.items()},
    }


async def test_binary_mode_is_the_structured_event(site: Site) -> None:
    event = query(id='ünï "q" %41', source="urn:app:ä")
    answer = await site.send("POST", "/v1/events", event["data"], binary(event, traceparent="00-x"))
    assert (answer.status_code, answer.json()["results"][0]["id"]) == (202, event["id"])
    structured = Site()
    await structured.send("POST", "/v1/events", event, ONE)
    assert site.log.records == structured.log.records


@pytest.mark.parametrize(
    ("sent", "meant"),
    [
        ("Euro %E2%82%AC %F0%9F%98%80", "Euro € 😀"),
        ('"quoted \\"text\\" 100%25"', 'quoted "text" 100%'),
        ("%2541", "%41"),
        ("100%", "100%"),
    ],
)
async def test_values_are_unquoted_and_decoded_once(site: Site, sent: str, meant: str) -> None:
    headers = binary(query()) | {"ce-id": sent}
    answer = await site.send("POST", "/v1/events", query()["data"], headers)
    assert answer.json()["results"][0]["id"] == meant


@given(st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=50))
def test_any_text_comes_through_a_header(text: str) -> None:
    item = compose_http([("ce-id", quote(text, safe=""))], "application/json", b"{}")
    assert isinstance(item, bytes)
    assert msgspec.json.decode(item)["id"] == text


@pytest.mark.parametrize(
    ("changes", "body", "reason", "field"),
    [
        ({"ce-specversion": None}, b"{}", "invalid_envelope", "specversion"),
        ({"ce-specversion": "0.3"}, b"{}", "invalid_envelope", "specversion"),
        ({"ce-id": None}, b"{}", "invalid_envelope", "id"),
        ({"ce-id": "%ff"}, b"{}", "invalid_envelope", "id"),
        ({"ce-id": ""}, b"{}", "invalid_envelope", "id"),
        ({"ce-tenant": "other"}, b"{}", "invalid_envelope", "tenant"),
        ({"ce-time": "yesterday"}, b"{}", "invalid_envelope", "time"),
        ({"ce-time": "2500-01-01T00:00:00Z"}, b"{}", "time_out_of_range", "time"),
        ({"ce-very-odd": "x"}, b"{}", "invalid_envelope", "very-odd"),
        ({"ce-data": "x"}, b"{}", "missing_field", "data.query_id"),
        ({}, b"no json", "invalid_json", "data"),
        ({}, b"", "missing_field", "data"),
        ({"content-type": "text/plain"}, b"{}", "invalid_envelope", "datacontenttype"),
    ],
)
async def test_a_bad_binary_event_is_refused_by_name_and_kept(
    site: Site, changes: dict[str, str | None], body: bytes, reason: str, field: str
) -> None:
    headers = {name: value for name, value in (binary(query()) | changes).items() if value is not None}
    answer = await site.send("POST", "/v1/events", body, headers)
    assert answer.status_code == 422, answer.text
    refused = answer.json()["results"][0]
    assert (refused["reason"], refused["field"]) == (reason, field)
    (kept,) = site.rejections()
    assert kept.headers == {"content-type": "application/cloudevents+json", "mode": "binary"}
    assert isinstance(msgspec.json.decode(kept.original), dict)


def test_an_attribute_twice_is_refused() -> None:
    item = compose_http([("ce-id", "a"), ("ce-id", "b")], "application/json", b"{}")
    assert isinstance(item, Undecoded)
    assert (item.why.field, item.why.message) == ("id", "id: expected one header ce-id, got several")


async def test_a_structured_type_goes_before_headers(site: Site) -> None:
    answer = await site.send("POST", "/v1/events", query(7), {**ONE, "ce-id": "other", "ce-type": "x"})
    assert answer.json()["results"][0]["id"] == "e-7"


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "application/jsonl; charset=utf-8"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
async def test_a_line_each(site: Site, media_type: str, ending: str) -> None:
    body = ending.join(json.dumps(query(number)) for number in range(3)).encode()
    answer = await site.send("POST", "/v1/events", body, {**ACME, "content-type": media_type})
    assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
    assert [event.id for event in site.events()] == ["e-0", "e-1", "e-2"]


async def test_a_bad_line_is_refused_by_itself_with_its_number(site: Site) -> None:
    bad = query(4, data={"query_id": "q", "txt": "x"})
    lines = [query(1), None, "{", bad, query(5)]
    body = "\n".join(
        line if isinstance(line, str) else json.dumps(line) if line else "  " for line in lines
    ).encode()
    answer = await site.send("POST", "/v1/events", body + b"\n", LINES)
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["status"] for result in results] == ["accepted", "rejected", "rejected", "accepted"]
    assert results[1]["message"].startswith("line 3: expected JSON")
    assert results[2]["message"].startswith("line 4: data has no field 'txt'")
    assert {kept.original for kept in site.rejections()} == {b"{", json.dumps(bad).encode()}


async def test_too_many_lines_are_413() -> None:
    site = Site(IngestSettings(max_events=3))
    lines = [json.dumps(query(number)).encode() for number in range(4)]
    assert (await site.send("POST", "/v1/events", b"\n".join(lines), LINES)).status_code == 413
    assert (await site.send("POST", "/v1/events", b"\n" * 100_000, LINES)).status_code == 413
    assert (await site.send("POST", "/v1/events", b"\n".join(lines[:3]) + b"\n", LINES)).status_code == 202


@pytest.mark.parametrize("body", [b"", b"\n\n", b"  "])
async def test_no_lines_are_no_events(site: Site, body: bytes) -> None:
    answer = await site.send("POST", "/v1/events", body, LINES)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "rejected": 0, "results": []})


@given(st.lists(st.binary(max_size=20).map(lambda line: line.replace(b"\n", b"")), max_size=20))
def test_lines_keep_their_numbers(lines: list[bytes]) -> None:
    found = dict(split_lines(b"\n".join(lines)))
    for number, line in enumerate(lines, 1):
        if line.strip():
            assert found[number] == line.strip(b"\r")
        else:
            assert number not in found
