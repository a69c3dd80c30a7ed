"""POST /v1/events: answers per event, nothing vanishes, acknowledged means confirmed."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence

import pytest

from ingest.ports import CONFIRMED, Appended
from ingest.settings import IngestSettings
from schemas.envelope import Event
from schemas.errors import Fatal
from tests.unit.http_door import ACME, BATCH, NOW, ONE, OTHER, Full, Site, query


@pytest.fixture
def site() -> Site:
    return Site()


async def test_one_event_is_stored_as_sent(site: Site) -> None:
    answer = await site.send("POST", "/v1/events", query(), ONE)
    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {
        "accepted": 1,
        "rejected": 0,
        "results": [{"index": 0, "id": "e-1", "source": "urn:app", "status": "accepted"}],
    }
    (event,) = site.events()
    assert (event.tenant, event.subject, event.source, event.id) == ("acme", "q-1", "urn:app", "e-1")
    assert event.recordedtime == NOW
    assert site.log.records["interactions"][0][0] == b"acme/q-1"


async def test_the_tenant_is_the_keys(site: Site) -> None:
    await site.send("POST", "/v1/events", query(), {**OTHER, "content-type": "application/json"})
    assert [event.tenant for event in site.events()] == ["other"]


@pytest.mark.parametrize(
    ("media_type", "many"),
    [
        ("application/cloudevents+json", False),
        ("application/cloudevents+json; charset=UTF-8", False),
        ("application/cloudevents-batch+json", True),
        ("application/json", False),
        ("application/json", True),
    ],
)
async def test_content_types(site: Site, media_type: str, many: bool) -> None:
    body = [query(1), query(2)] if many else query(1)
    answer = await site.send("POST", "/v1/events", body, {**ACME, "content-type": media_type})
    assert answer.status_code == 202
    assert len(site.events()) == (2 if many else 1)


async def test_some_refused_is_207_and_the_refused_are_kept(site: Site) -> None:
    bad = query(2, data={"query_id": "q-2", "txt": "oops"})
    answer = await site.send("POST", "/v1/events", [query(1), bad, query(3)], BATCH)
    assert answer.status_code == 207
    body = answer.json()
    assert (body["accepted"], body["rejected"]) == (2, 1)
    refused = body["results"][1]
    assert refused["status"] == "rejected"
    assert refused["reason"] == "unknown_field"
    assert refused["field"] == "data.txt"
    assert "did you mean 'text'?" in refused["message"]
    (kept,) = site.rejections()
    assert json.loads(kept.original) == bad
    assert (kept.event_source, kept.event_id, kept.event_type) == ("urn:app", "e-2", "ratchet.query.asked.v1")
    assert kept.replayable


async def test_none_accepted_is_422_with_every_refusal(site: Site) -> None:
    answer = await site.send("POST", "/v1/events", [1, {"id": "x"}], BATCH)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "urn:ratchet:problem:rejected"
    assert [result["reason"] for result in body["results"]] == ["invalid_envelope", "invalid_envelope"]
    assert len(site.rejections()) == 2
    assert not site.events()


async def test_an_empty_batch_is_accepted(site: Site) -> None:
    answer = await site.send("POST", "/v1/events", [], BATCH)
    assert (answer.status_code, answer.json()) == (202, {"accepted": 0, "rejected": 0, "results": []})


@pytest.mark.parametrize("body", [b"", b"{", b"[1,", b'[{"a":1}{"b":2}]', b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("headers", [ONE, BATCH], ids=["one", "batch"])
async def test_what_is_not_json_is_400(site: Site, body: bytes, headers: dict[str, str]) -> None:
    answer = await site.send("POST", "/v1/events", body, headers)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:ratchet:problem:unparseable"
    assert not site.events()
    # what came with a key is kept; nothing came in an empty body
    assert [(one.reason, one.original) for one in site.rejections()] == (
        [("invalid_json", body)] if body else []
    )


async def test_a_body_that_cannot_be_kept_is_503(site: Site) -> None:
    site.log.confirming = False
    answer = await site.send("POST", "/v1/events", b"{", ONE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")


async def test_one_event_where_a_batch_was_announced_is_400(site: Site) -> None:
    answer = await site.send("POST", "/v1/events", query(), BATCH)
    assert (answer.status_code, answer.json()["detail"]) == (
        400,
        "expected an array of CloudEvents, got one value",
    )


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": ""},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "br"},
    ],
)
async def test_other_content_is_415(site: Site, headers: dict[str, str]) -> None:
    answer = await site.send("POST", "/v1/events", b"{}", {**ACME, **headers})
    assert (answer.status_code, answer.json()["status"]) == (415, 415)


async def test_a_large_body_is_413() -> None:
    site = Site(IngestSettings(max_body_bytes=2048))
    answer = await site.send("POST", "/v1/events", b" " * 2049, ONE)
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


async def test_too_many_events_is_413() -> None:
    site = Site(IngestSettings(max_events=2))
    assert (await site.send("POST", "/v1/events", [query(i) for i in range(2)], BATCH)).status_code == 202
    answer = await site.send("POST", "/v1/events", [query(i) for i in range(3)], BATCH)
    assert answer.status_code == 413
    assert len(site.events()) == 2


async def test_of_a_large_rejected_event_the_beginning_is_kept() -> None:
    site = Site(IngestSettings(max_event_bytes=4096, max_kept_bytes=1024))
    big = query(1, data={"query_id": "q", "text": "x" * 5000})
    answer = await site.send("POST", "/v1/events", big, ONE)
    assert answer.status_code == 422
    (kept,) = site.rejections()
    original = json.dumps(big).encode()
    assert kept.reason == "too_large"
    assert kept.original == original[:1024]
    assert kept.original_length == len(original)
    assert not kept.replayable
    assert len(kept.headers["original-sha256"]) == 64
    assert kept.event_id == "e-1"


async def test_millions_of_tiny_values_are_413_and_are_never_cut() -> None:
    body = b"[" + b"0," * 2_000_000 + b"0]"
    tracemalloc.start()
    try:
        answer = await Site().send("POST", "/v1/events", body, BATCH)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code == 413
    assert "500000 values" in answer.json()["detail"]
    assert peak < 5 * len(body)


class PartlySilent:
    """A log that confirms nothing about the events with these ids."""

    def __init__(self, silent: set[str]) -> None:
        self.silent = silent

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        return [Appended(False, "late") if event.id in self.silent else CONFIRMED for event in events]


async def test_unconfirmed_is_503_with_a_state_per_event() -> None:
    site = Site(log=PartlySilent({"e-2"}))
    bad = query(3, type="nonsense")
    answer = await site.send("POST", "/v1/events", [query(1), query(2), bad], BATCH)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    body = answer.json()
    assert [result["status"] for result in body["results"]] == ["accepted", "unconfirmed", "rejected"]
    assert (body["accepted"], body["rejected"], body["unconfirmed"]) == (1, 1, 1)


async def test_an_unconfirmed_rejection_is_503_too(site: Site) -> None:
    site.log.confirming = False
    answer = await site.send("POST", "/v1/events", query(1, type="nonsense"), ONE)
    assert answer.status_code == 503
    assert answer.json()["results"][0]["status"] == "unconfirmed"


async def test_a_full_log_is_503_and_says_when_to_come_back() -> None:
    answer = await Site(log=Full()).send("POST", "/v1/events", query(), ONE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "3")
    assert answer.json()["results"][0]["status"] == "unconfirmed"


class Dead:
    """A log that will never confirm anything again."""

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        raise Fatal("the sender died")


async def test_a_dead_log_stops_the_process() -> None:
    site = Site(log=Dead())
    answer = await site.send("POST", "/v1/events", query(), ONE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert [str(error) for error in site.fatal] == ["the sender died"]


async def test_without_a_key_it_is_401(site: Site) -> None:
    for headers in (
        {},
        {"authorization": "Basic eA=="},
        {"x-api-key": "guess"},
        {"authorization": "Bearer x"},
    ):
        answer = await site.send("POST", "/v1/events", query(), headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"
    assert not site.log.records


async def test_without_the_scope_it_is_403(site: Site) -> None:
    answer = await site.send("POST", "/v1/events", query(), {"x-api-key": "read-only"})
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:ratchet:problem:forbidden")


async def test_the_same_rejected_bytes_are_one_entry(site: Site) -> None:
    for _ in range(2):
        await site.send("POST", "/v1/events", query(1, type="nonsense"), ONE)
    first, second = site.events("rejected")
    assert first.identity == second.identity
    assert first.contenthash == second.contenthash


@pytest.mark.parametrize(
    ("value", "said"), [("NaN", "NaN"), ("-Infinity", "-Infinity"), ("Infinity", "Infinity")]
)
async def test_a_number_that_json_does_not_have_is_named(site: Site, value: str, said: str) -> None:
    body = json.dumps([query(1), query(2, data={"query_id": "q", "latency_ms": 0.5})]).replace("0.5", value)
    answer = await site.send("POST", "/v1/events", body.encode(), BATCH)
    assert (answer.status_code, answer.json()["field"]) == (400, "1.data.latency_ms")
    assert f"got {said}," in answer.json()["detail"]


async def test_a_number_too_large_for_a_float_names_its_field(site: Site) -> None:
    body = json.dumps(
        query(type="ratchet.answer.given.v1", data={"query_id": "q", "answer_id": "a", "latency_ms": 0.5})
    )
    answer = await site.send("POST", "/v1/events", body.replace("0.5", "1e999").encode(), ONE)
    assert answer.status_code == 422
    assert (answer.json()["results"][0]["reason"], answer.json()["results"][0]["field"]) == (
        "invalid_value",
        "data.latency_ms",
    )
