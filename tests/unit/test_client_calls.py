"""A RAG call as a block, against the real application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from ratchet_client import Call, Exposure, Hit, Limits, Outbox, OutboxFull, Serving

from schemas.codec import decode_payload
from schemas.interactions import AnswerGiven, FeedbackGiven, QueryAsked, RetrievalServed
from tests.unit.client_bridge import Bridge
from tests.unit.http_door import Site

SERVING = Serving("1.1.0", (Exposure("e", "b"),))


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def outbox(site: Site) -> Iterator[Outbox]:
    with Outbox("http://ratchet", "acme-key", transport=Bridge(site)) as outbox:
        yield outbox


def payloads(site: Site, outbox: Outbox) -> list[object]:
    assert outbox.flush() == 0
    assert outbox.figures().refused == 0
    return [decode_payload(event) for event in site.events()]


def test_a_call_is_a_query_its_list_and_its_answer(site: Site, outbox: Outbox) -> None:
    known = {"channel": "app"}
    with outbox.call("how do I pay", user="u-1", session="s", attributes=known, serving=SERVING) as call:
        time.sleep(0.02)
        shown = call.retrieved(["d1", Hit("d2", 2, score=0.5)])
        said = call.answered("so", citations=["d1"], generator="m", input_tokens=3, cost_usd=0.01)
    outbox.thumb(call.query_id, up=True, answer_id=call.answer_id)
    query, retrieval, answer, thumb = payloads(site, outbox)
    assert isinstance(query, QueryAsked)
    assert (query.query_id, query.text, query.unit) == (call.query_id, call.text, "u-1")
    assert (query.attributes, [(e.experiment, e.arm) for e in query.exposures]) == (known, [("e", "b")])
    assert isinstance(retrieval, RetrievalServed)
    assert (retrieval.query_id, retrieval.retrieval_id) == (call.query_id, shown)
    assert (retrieval.pipeline_version, call.retrieval_id) == ("1.1.0", shown)
    assert 20 <= (retrieval.latency_ms or 0) < 5000
    assert isinstance(answer, AnswerGiven)
    assert (answer.answer_id, said, answer.text, answer.generator) == (call.answer_id, said, "so", "m")
    assert 0 <= (answer.latency_ms or -1) < (retrieval.latency_ms or 0)
    assert isinstance(thumb, FeedbackGiven)
    assert thumb.target.answer_id == call.answer_id


def test_what_the_application_measured_goes_before_what_the_block_did(site: Site, outbox: Outbox) -> None:
    with outbox.call("x", query_id="q-7") as call:
        call.retrieved(["d"], latency_ms=7.5, pipeline_version="mine")
        hidden = call.retrieved(["e"], shadow=True)
        call.answered("a", latency_ms=9.5)
        first = call.answer_id
        call.answered("b")
    _, shown, shadow, one, two = payloads(site, outbox)
    assert isinstance(shown, RetrievalServed)
    assert (shown.query_id, shown.latency_ms, shown.pipeline_version) == ("q-7", 7.5, "mine")
    assert isinstance(shadow, RetrievalServed)
    assert (shadow.shadow, shadow.retrieval_id, call.retrieval_id) == (True, hidden, shown.retrieval_id)
    assert isinstance(one, AnswerGiven)
    assert isinstance(two, AnswerGiven)
    assert (one.answer_id, one.latency_ms, two.answer_id) == (first, 9.5, call.answer_id)
    assert one.answer_id != two.answer_id


class Refuses(Exception):
    """An error that quotes what somebody wrote."""


def list_and_fail(call: Call) -> None:
    call.retrieved(["d"])
    raise Refuses("n" * 1000)


def answer_and_fail(call: Call) -> None:
    call.answered("done")
    raise Refuses


def test_an_exception_is_an_answer_with_an_error_and_goes_on(site: Site, outbox: Outbox) -> None:
    with pytest.raises(ValueError, match="Jane"), outbox.call("x") as first:
        raise ValueError("Jane's account")
    with pytest.raises(Refuses), outbox.call("y", describe_error=repr) as second:
        list_and_fail(second)
    with pytest.raises(Refuses), outbox.call("z") as third:
        answer_and_fail(third)
    _, one, _, _, two, _, three = payloads(site, outbox)
    assert isinstance(one, AnswerGiven)
    # The type only: a message may hold what a person wrote.
    assert (one.query_id, one.answer_id, one.error, one.text) == (
        first.query_id,
        first.answer_id,
        "ValueError",
        "",
    )
    assert isinstance(two, AnswerGiven)
    assert two.error == repr(Refuses("n" * 1000))[:500]
    assert isinstance(three, AnswerGiven)
    assert (three.text, three.error) == ("done", None)


def test_a_full_outbox_does_not_hide_the_error_of_the_block() -> None:
    transport = httpx.MockTransport(lambda _request: httpx.Response(503))
    outbox = Outbox("http://r", "k", when_full="raise", limits=Limits(memory_bytes=300), transport=transport)
    with pytest.raises(ZeroDivisionError), outbox.call("x"):
        raise ZeroDivisionError
    with pytest.raises(OutboxFull), outbox.call("x" * 300):
        raise ZeroDivisionError  # never reached: entering has no room
    outbox.close(0)


async def test_the_same_for_asyncio(site: Site, outbox: Outbox, tmp_path: Path) -> None:
    async with outbox.async_call("how", user="u", serving=SERVING) as call:
        await asyncio.sleep(0.02)
        await call.retrieved(["d1"])
        await call.answered("so", citations=["d1"])
    with pytest.raises(asyncio.CancelledError):
        async with outbox.async_call("y"):
            raise asyncio.CancelledError
    durable = Outbox("http://ratchet", "acme-key", spill=tmp_path, durable=True, transport=Bridge(site))
    async with durable.async_call("z") as third:
        await third.retrieved(["d1"])
    assert await asyncio.to_thread(outbox.flush) == 0
    assert await asyncio.to_thread(durable.close) == 0
    found = [decode_payload(event) for event in site.events()]
    retrievals = [one for one in found if isinstance(one, RetrievalServed)]
    answers = [one for one in found if isinstance(one, AnswerGiven)]
    assert {one.query_id for one in retrievals} == {call.query_id, third.query_id}
    assert 20 <= max(one.latency_ms or 0 for one in retrievals) < 5000
    assert [one.error for one in answers] == [None, "asyncio.exceptions.CancelledError"]
    assert len([one for one in found if isinstance(one, QueryAsked)]) == 3
