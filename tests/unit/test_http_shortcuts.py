"""The shortcuts: ids in or minted, the same key is the same event, refusals in the caller's own words."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.codec import decode_payload
from schemas.documents import DocumentStored
from schemas.interactions import FeedbackRetracted, QueryAsked
from tests.unit.http_door import ACME, NOW, Site


@pytest.fixture
def site() -> Site:
    return Site()


BODIES: list[tuple[str, dict[str, Any], str]] = [
    ("/v1/queries", {"query_id": "q", "text": "how"}, "ratchet.query.asked.v1"),
    ("/v1/retrievals", {"query_id": "q", "retrieval_id": "r"}, "ratchet.retrieval.served.v1"),
    ("/v1/answers", {"query_id": "q", "answer_id": "a"}, "ratchet.answer.given.v1"),
    ("/v1/feedback", {"query_id": "q", "kind": "thumb", "value": 1}, "ratchet.feedback.given.v1"),
    ("/v1/feedback/retractions", {"query_id": "q", "feedback_id": "f"}, "ratchet.feedback.retracted.v1"),
]


@pytest.mark.parametrize(("path", "body", "event_type"), BODIES, ids=[b[0] for b in BODIES])
async def test_each_shortcut_makes_its_event(
    site: Site, path: str, body: dict[str, Any], event_type: str
) -> None:
    envelope = {"id": "e-9", "source": "urn:app", "time": "2026-03-02T09:00:00Z"}
    answer = await site.send("POST", path, {**body, **envelope})
    assert answer.status_code == 202
    (event,) = site.events()
    assert (event.type, event.id, event.source, event.tenant) == (event_type, "e-9", "urn:app", "acme")
    assert event.time == NOW.replace(hour=9, minute=0)
    assert answer.json()["id"] == "e-9"
    assert answer.json()["query_id"] == "q"


async def test_what_is_absent_is_minted_and_told(site: Site) -> None:
    answer = await site.send("POST", "/v1/queries", {"text": "how"})
    ids = answer.json()
    assert ids["id"] == ids["query_id"]
    assert ids["source"] == "urn:ratchet:shortcut:queries"
    (event,) = site.events()
    assert decode_payload(event) == QueryAsked(query_id=ids["query_id"], text="how")
    again = (await site.send("POST", "/v1/queries", {"text": "how"})).json()
    assert again["id"] > ids["id"]


@pytest.mark.parametrize("field", ["query_id", "retrieval_id", "answer_id"])
async def test_the_same_key_is_the_same_event(site: Site, field: str) -> None:
    path = {"query_id": "queries", "retrieval_id": "retrievals", "answer_id": "answers"}[field]
    body = {"text": "how"} if field == "query_id" else {"query_id": "q"}
    headers = {**ACME, "idempotency-key": "order-1"}
    first = await site.send("POST", f"/v1/{path}", body, headers)
    second = await site.send("POST", f"/v1/{path}", body, headers)
    by_id = await site.send("POST", f"/v1/{path}", {**body, "id": "order-1"})
    assert first.json() == second.json() == by_id.json()
    assert first.json()["id"] == "order-1"
    assert len({(event.identity, event.contenthash) for event in site.events()}) == 1
    other = await site.send("POST", f"/v1/{path}", {**body, "source": "urn:other"}, headers)
    assert other.json()[field] != first.json()[field]


async def test_one_key_on_every_route_names_as_many_events(site: Site) -> None:
    for path, body, _ in BODIES:
        answer = await site.send("POST", path, body, {**ACME, "idempotency-key": "order-1"})
        assert (answer.status_code, answer.json()["id"]) == (202, "order-1")
    assert len({event.identity for event in site.events()}) == len(BODIES)


async def test_a_key_that_cannot_be_an_id_is_400(site: Site) -> None:
    answer = await site.send("POST", "/v1/queries", {"text": "x"}, {**ACME, "idempotency-key": "x" * 257})
    assert answer.status_code == 400


async def test_a_refusal_names_the_callers_field_and_keeps_the_event(site: Site) -> None:
    answer = await site.send(
        "POST", "/v1/feedback", {"query_id": "q", "kind": "thumb", "value": 3, "id": "f"}
    )
    assert answer.status_code == 422
    body = answer.json()
    assert (body["reason"], body["field"], body["id"]) == ("invalid_value", "value", "f")
    (kept,) = site.rejections()
    assert kept.field == "data.value"
    assert kept.headers["path"] == "/v1/feedback"
    assert (kept.event_id, kept.event_type) == ("f", "ratchet.feedback.given.v1")


@pytest.mark.parametrize("id_", [5, "", None, {"a": 1}])
async def test_a_bad_id_is_refused_not_replaced(site: Site, id_: object) -> None:
    answer = await site.send("POST", "/v1/queries", {"text": "x", "id": id_})
    assert (answer.status_code, answer.json()["field"]) == (422, "id")
    assert not site.events()


async def test_an_unconfirmed_event_is_503_with_its_id(site: Site) -> None:
    site.log.confirming = False
    answer = await site.send("POST", "/v1/queries", {"text": "x"})
    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert answer.json()["id"]


@pytest.mark.parametrize(
    ("body", "status"), [(b"", 400), (b"{", 400), (b"[]", 400), (b"\xff", 400), (b'{"a":' + b"[" * 9999, 400)]
)
async def test_what_is_no_object_is_400(site: Site, body: bytes, status: int) -> None:
    for path, _, _ in [*BODIES, ("/v1/documents", {}, "")]:
        assert (await site.send("POST", path, body)).status_code == status


async def test_another_content_type_is_415(site: Site) -> None:
    answer = await site.send("POST", "/v1/queries", b"{}", {**ACME, "content-type": "text/plain"})
    assert answer.status_code == 415


async def test_a_retraction_of_a_shortcuts_feedback_needs_no_source(site: Site) -> None:
    given = await site.send("POST", "/v1/feedback", {"query_id": "q", "kind": "copy"})
    await site.send("POST", "/v1/feedback/retractions", {"query_id": "q", "feedback_id": given.json()["id"]})
    feedback, retraction = site.events()
    assert decode_payload(retraction) == FeedbackRetracted(
        query_id="q", feedback_source=feedback.source, feedback_id=feedback.id
    )


async def test_one_document(site: Site) -> None:
    answer = await site.send("POST", "/v1/documents", {"document_id": "d", "text": "t", "fields": {"n": 1}})
    assert (answer.status_code, answer.json()["document_id"]) == (202, "d")
    (event,) = site.events("documents")
    assert decode_payload(event) == DocumentStored(document_id="d", text="t", fields={"n": 1})
    assert site.log.records["documents"][0][0] == b"acme/d"


async def test_many_documents(site: Site) -> None:
    documents = [{"document_id": "d1", "text": "t"}, {"document_id": "d2", "txt": "t"}]
    answer = await site.send(
        "POST", "/v1/documents", {"documents": documents}, {**ACME, "idempotency-key": "k"}
    )
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [result["id"] for result in results] == ["k/0", "k/1"]
    assert results[1]["field"] == "txt"
    assert len(site.events("documents")) == 1


@pytest.mark.parametrize("documents", [5, [5], "x", None])
async def test_no_array_of_documents_is_400(site: Site, documents: object) -> None:
    answer = await site.send("POST", "/v1/documents", {"documents": documents})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    ("path", "document_id"),
    [("d-1", "d-1"), ("a/b", "a/b"), ("a%2Fb%20c", "a/b c"), ("%C3%BC?x=1", "ü"), ("%25", "%"), ("/a", "/a")],
)
async def test_removing_a_document(site: Site, path: str, document_id: str) -> None:
    answer = await site.send("DELETE", f"/v1/documents/{path}")
    assert (answer.status_code, answer.json().get("document_id")) == (202, document_id)
    (event,) = site.events("documents")
    assert (event.type, event.subject) == ("ratchet.document.removed.v1", document_id)


@pytest.mark.parametrize("path", ["//v1/documents/d-1", "/v1//documents/d-1", "///v1///documents/d-1"])
async def test_doubled_slashes_are_not_part_of_the_id(site: Site, path: str) -> None:
    answer = await site.send("DELETE", f"http://ratchet{path}")
    assert (answer.status_code, answer.json().get("document_id")) == (202, "d-1")
    assert [event.subject for event in site.events("documents")] == ["d-1"]


async def test_a_path_in_other_words_removes_nothing(site: Site) -> None:
    answer = await site.send("DELETE", "/v1/%64ocuments/d-1")
    assert answer.status_code == 404
    assert answer.json()["type"] == "urn:ratchet:problem:not-found"
    assert not site.log.records


async def test_every_shortcut_needs_a_key(site: Site) -> None:
    for path, body, _ in BODIES:
        assert (await site.send("POST", path, body, {})).status_code == 401
        assert (await site.send("POST", path, body, {"x-api-key": "read-only"})).status_code == 403
    assert (await site.send("DELETE", "/v1/documents/d", headers={})).status_code == 401
    assert not site.log.records
