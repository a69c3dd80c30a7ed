"""`ratchet_client` against the real application: same ids on every attempt, refusals by event."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from ratchet_client import (
    AsyncRatchet,
    ClientError,
    Exposure,
    Hit,
    Ratchet,
    Refused,
    RequestFailed,
    Retries,
    Unavailable,
)
from ratchet_client.retrying import retry_after_s
from ratchet_client.wire import MAX_EVENTS, mint_id

from schemas.codec import decode_payload
from schemas.documents import DocumentRemoved, DocumentStored
from schemas.interactions import AnswerGiven, FeedbackGiven, FeedbackRetracted, QueryAsked, RetrievalServed
from schemas.lifecycle import VersionReady
from tests.unit.client_bridge import Bridge
from tests.unit.http_door import Site, champion

Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def site() -> Site:
    site = Site()
    site.serving.states["acme"] = champion("1.0.0")
    return site


@pytest.fixture
def client(site: Site) -> Ratchet:
    return Ratchet("http://ratchet", "acme-key", source="urn:shop", transport=Bridge(site))


def payloads(site: Site, topic: str = "interactions") -> list[object]:
    return [decode_payload(event) for event in site.events(topic)]


def test_a_query_its_list_its_answer_and_its_feedback(site: Site, client: Ratchet) -> None:
    asked = client.query("how", user="u", attributes={"page": 1}, exposures=[Exposure("e", "a")])
    shown = client.retrieval(asked.query_id, ["d1", Hit("d2", 2, score=0.5)], pipeline_version="1.0.0")
    said = client.answer(asked.query_id, "so", citations=["d1"], input_tokens=3)
    clicked = client.click(asked.query_id, "d1", rank=1, retrieval_id=shown.retrieval_id)
    client.thumb(asked.query_id, up=False, answer_id=said.answer_id)
    client.feedback(asked.query_id, "comment", text="no")
    client.retract(asked.query_id, clicked.id)
    query, retrieval, answer, click, thumb, comment, retraction = payloads(site)
    assert isinstance(query, QueryAsked)
    assert (query.query_id, query.unit, query.attributes) == (asked.query_id, "u", {"page": 1})
    assert query.exposures[0].arm == "a"
    assert isinstance(retrieval, RetrievalServed)
    assert [(hit.document_id, hit.rank, hit.score) for hit in retrieval.hits] == [
        ("d1", 1, None),
        ("d2", 2, 0.5),
    ]
    assert isinstance(answer, AnswerGiven)
    assert answer.answer_id == said.answer_id
    assert isinstance(click, FeedbackGiven)
    assert (click.kind, click.target.kind, click.target.document_id, click.target.rank) == (
        "click",
        "document",
        "d1",
        1,
    )
    assert isinstance(thumb, FeedbackGiven)
    assert (thumb.value, thumb.target.kind, thumb.target.answer_id) == (-1, "answer", said.answer_id)
    assert isinstance(comment, FeedbackGiven)
    assert (comment.text, comment.target.kind) == ("no", "query")
    assert retraction == FeedbackRetracted(
        query_id=asked.query_id, feedback_source="urn:shop", feedback_id=clicked.id
    )
    assert {event.source for event in site.events()} == {"urn:shop"}
    assert site.events()[0].id == asked.id


def test_ids_and_times_of_the_caller_are_kept(site: Site, client: Ratchet) -> None:
    time = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    sent = client.query("how", query_id="q-7", id="e-7", time=time)
    (event,) = site.events()
    assert (sent.id, sent.query_id, event.id, event.subject, event.time) == ("e-7", "q-7", "e-7", "q-7", time)


def test_documents_are_sent_in_batches(site: Site, client: Ratchet) -> None:
    count = 2 * MAX_EVENTS + 1
    receipt = client.documents({"document_id": f"d{n}", "text": "t", "title": "T"} for n in range(count))
    assert receipt.accepted == count
    assert len(site.events("documents")) == count
    client.document("d", "text", fields={"n": 1})
    client.remove_document("d")
    assert payloads(site, "documents")[-2:] == [
        DocumentStored(document_id="d", text="text", fields={"n": 1}),
        DocumentRemoved(document_id="d"),
    ]


def test_a_refusal_names_its_event_and_the_others_are_stored(site: Site, client: Ratchet) -> None:
    good = {"type": "ratchet.query.asked.v1", "data": {"query_id": "q", "text": "x"}}
    bad = {"type": "ratchet.query.asked.v1", "id": "bad-1", "data": {"query_id": "q"}}
    with pytest.raises(Refused, match="missing_field in event 'bad-1'") as caught:
        client.send([good, bad, good])
    (refusal,) = caught.value.refusals
    assert (refusal.id, refusal.reason, refusal.field) == ("bad-1", "missing_field", "data.text")
    assert caught.value.accepted == 2
    assert len(site.events()) == 2
    with pytest.raises(Refused):
        client.feedback("q", "thumb", value=7)


def test_serving_and_ready(site: Site, client: Ratchet) -> None:
    serving = client.serving("u/1 ü")
    assert (serving.version, serving.prepare, serving.exposures) == ("1.0.0", ("1.0.0",), ())
    client.ready("1.0.0", by="shop")
    assert payloads(site, "lifecycle") == [VersionReady(version="1.0.0", by="shop")]
    with pytest.raises(RequestFailed, match="no version") as caught:
        client.ready("9.9.9")
    assert caught.value.status == 404


def test_a_wrong_key_is_not_tried_twice(site: Site) -> None:
    client = Ratchet("http://ratchet", "guess", transport=Bridge(site))
    with pytest.raises(RequestFailed, match="unknown or revoked") as caught:
        client.query("x")
    assert caught.value.status == 401


async def test_the_asynchronous_client_does_the_same(site: Site) -> None:
    transport = httpx.ASGITransport(app=site.app)  # type: ignore[arg-type]
    async with AsyncRatchet("http://ratchet/", "acme-key", transport=transport) as client:
        asked = await client.query("how")
        await asyncio.gather(*(client.click(asked.query_id, f"d{n}") for n in range(5)))
        assert (await client.serving()).version == "1.0.0"
        with pytest.raises(Refused):
            await client.feedback(asked.query_id, "nonsense")
    assert len(site.events()) == 6


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(Ratchet) == public(AsyncRatchet)


def scripted(
    handlers: Sequence[Handler], attempts: int = 6
) -> tuple[Ratchet, list[httpx.Request], list[float]]:
    """A client whose transport answers by script, the requests it sent, and the waits it made."""
    sent: list[httpx.Request] = []
    waits: list[float] = []

    def handle(request: httpx.Request) -> httpx.Response:
        request.read()
        sent.append(request)
        return handlers[min(len(sent), len(handlers)) - 1](request)

    client = Ratchet(
        "http://ratchet", "k", transport=httpx.MockTransport(handle), retries=Retries(attempts=attempts)
    )
    client._sleep = waits.append
    return client, sent, waits


def accept(request: httpx.Request) -> httpx.Response:
    results = [
        {"index": n, "id": event["id"], "source": event["source"], "status": "accepted"}
        for n, event in enumerate(json.loads(request.content))
    ]
    return httpx.Response(202, json={"accepted": len(results), "rejected": 0, "results": results})


def status(code: int, **headers: str) -> Handler:
    return lambda _request: httpx.Response(code, headers=headers, json={"detail": "later"})


def time_out(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("slow", request=request)


def cut_off(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_every_attempt_sends_the_same_bytes() -> None:
    script = [status(429), status(502), status(503), time_out, cut_off, accept]
    client, sent, waits = scripted(script)
    asked = client.query("how")
    assert len(sent) == 6
    assert len({request.content for request in sent}) == 1
    assert json.loads(sent[0].content)[0]["id"] == asked.id
    assert all(0 < wait <= 10 for wait in waits)
    assert waits[4] > waits[0]


def test_retry_after_is_honoured() -> None:
    client, _, waits = scripted([status(503, **{"retry-after": "3"}), accept])
    client.query("how")
    assert waits[0] >= 3
    now = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
    for text, seconds in (("7", 7), ("Mon, 02 Mar 2026 09:30:05 GMT", 5), ("soon", 0), ("", 0)):
        assert retry_after_s(httpx.Response(503, headers={"retry-after": text}), now) == seconds


def test_attempts_are_bounded() -> None:
    client, sent, waits = scripted([status(503)], attempts=3)
    with pytest.raises(Unavailable, match="3 attempts: HTTP 503") as caught:
        client.query("how")
    assert (caught.value.attempts, len(sent), len(waits)) == (3, 3, 2)


@pytest.mark.parametrize("code", [400, 401, 403, 404, 413, 415, 500])
def test_what_cannot_pass_is_not_tried_again(code: int) -> None:
    client, sent, _ = scripted([status(code)])
    with pytest.raises(RequestFailed, match=f"HTTP {code}: later"):
        client.query("how")
    assert len(sent) == 1


def test_what_was_not_confirmed_can_be_sent_again_with_its_ids() -> None:
    client, sent, _ = scripted([*[status(503)] * 3, accept], attempts=3)
    with pytest.raises(Unavailable) as caught:
        client.thumb("q", up=True)
    assert client.send(caught.value.events).accepted == 1
    assert json.loads(sent[-1].content) == json.loads(sent[0].content)
    assert len(sent) == 4


async def test_only_the_requests_that_were_not_confirmed_are_left_over() -> None:
    events = [
        {"type": "ratchet.query.asked.v1", "id": f"e{n}", "data": {"query_id": "q", "text": "x"}}
        for n in range(2 * MAX_EVENTS + 1)
    ]
    client, sent, _ = scripted([accept, status(503)], attempts=2)
    with pytest.raises(Unavailable) as unavailable:
        client.send(events)
    assert [event["id"] for event in unavailable.value.events] == [e["id"] for e in events[MAX_EVENTS:]]
    assert [*unavailable.value.events[:MAX_EVENTS]] == json.loads(sent[-1].content)

    # all are sent before a wrong one is told of
    client, _, _ = scripted([accept, status(413), accept])
    with pytest.raises(RequestFailed) as failed:
        client.send(events)
    assert [event["id"] for event in failed.value.events] == [
        event["id"] for event in events[MAX_EVENTS : 2 * MAX_EVENTS]
    ]

    transport = httpx.MockTransport(status(503))
    async with AsyncRatchet("http://ratchet", "k", transport=transport, retries=Retries(attempts=1)) as other:
        with pytest.raises(Unavailable) as caught:
            await other.query("how", query_id="q", id="e")
        assert [event["id"] for event in caught.value.events] == ["e"]
        with pytest.raises(Unavailable) as caught:
            await other.serving()
        assert caught.value.events == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), dt.date(2026, 3, 2), "\ud800"])
def test_what_is_no_json_is_named_before_anything_is_sent(value: Any) -> None:
    client, sent, _ = scripted([accept])
    good = {"type": "ratchet.query.asked.v1", "data": {"query_id": "q", "text": "x"}}
    events = [good] * (MAX_EVENTS + 1)
    bad = {"type": "ratchet.feedback.given.v1", "id": "bad-1", "data": {"query_id": "q", "value": value}}
    with pytest.raises(ClientError, match=r"event 'bad-1' cannot be written as JSON"):
        client.send([*events, bad])
    assert not sent


def test_a_search_sends_its_query_id_and_reads_what_it_knows() -> None:
    answer = {
        "query_id": "q",
        "retrieval_id": "r",
        "version": "1.0.0",
        "exposures": [{"experiment": "e", "arm": "a"}],
        "exploration": False,
        "latency_ms": 3.5,
        "hits": [
            {"rank": 1, "document_id": "d", "title": "T", "text": "t", "fields": {}, "score": 0.5, "new": 1}
        ],
        "added_later": True,
    }
    sent: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200, json=answer)

    client = Ratchet("http://ratchet", "k", search_url="http://search", transport=httpx.MockTransport(handle))
    found = client.search("how", user="u", k=3)
    assert (found.query_id, found.retrieval_id, found.version) == ("q", "r", "1.0.0")
    assert (found.hits[0].document_id, found.hits[0].title, found.exposures[0].arm) == ("d", "T", "a")
    assert str(sent[0].url) == "http://search/v1/search"
    body = json.loads(sent[0].content)
    assert body.pop("query_id")
    assert body == {"text": "how", "k": 3, "user": "u", "attributes": {}, "explore": True}


def test_search_without_its_url_says_what_to_do() -> None:
    client, sent, _ = scripted([accept])
    with pytest.raises(ClientError, match="search_url"):
        client.search("how")
    assert not sent


def test_a_url_that_is_none_is_not_tried_again() -> None:
    with Ratchet("ftp://ratchet", "k") as client, pytest.raises(ClientError, match="cannot be sent"):
        client.query("how")


def test_minted_ids_are_ordered_by_time() -> None:
    ids = [mint_id() for _ in range(3)]
    assert len(set(ids)) == 3
    assert [id_[:13] for id_ in ids] == sorted(id_[:13] for id_ in ids)
    assert all(id_[14] == "7" for id_ in ids)
