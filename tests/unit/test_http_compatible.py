"""Other tools' routes: what their real clients sent is sent again, and each is answered as it wants to be.

`tests/golden/clients` holds what the clients sent and were content with; `tests.clients.record` makes it.
"""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from ingest.formats.items import Undecoded
from ingest.formats.registry import decode_original
from schemas.codec import decode_payload
from schemas.interactions import AnswerGiven, FeedbackGiven, QueryAsked, Target
from schemas.waiting import FeedbackReferred
from tests.clients.interaction import ANSWER, ANSWER_SPAN_ID, QUESTION, TRACE_ID
from tests.unit.http_door import ACME, Site

GOLDEN = Path(__file__).parents[1] / "golden" / "clients"
SCORE = {"name": "accuracy", "value": 0.9, "traceId": "t-1"}
SESSION_SCORE = {"name": "accuracy", "value": 0.9, "sessionId": "s-1"}
METRIC = {"metric_name": "rating", "value": 0.5, "episode_id": "ep-1"}
ANNOTATION = {"name": "n", "annotator_kind": "HUMAN", "result": {"score": 1}, "span_id": "b7ad"}
EVENT = {
    "action_name": "click",
    "query_id": "q-1",
    "timestamp": "2026-03-02T09:29:30Z",
    "event_attributes": {"position": {"ordinal": 2}},
}
#: One body that is taken, and one that is refused, for each route.
BODIES: list[tuple[str, Any, Any]] = [
    ("/api/public/scores", SCORE, SESSION_SCORE),
    ("/api/public/ingestion", {"batch": [{"id": "e", "type": "score-create", "body": SCORE}]}, None),
    ("/feedback", METRIC, {**METRIC, "value": "good"}),
    ("/v1/span_annotations", {"data": [ANNOTATION]}, {"data": [{**ANNOTATION, "result": {}}]}),
    ("/v1/span_notes", {"data": {"span_id": "b7ad", "note": "x"}}, {"data": {"note": "x"}}),
    ("/v1/ubi", EVENT, {**EVENT, "query_id": None}),
    (
        "/api/3.0/mlflow/traces/tr-1/assessments",
        {"assessment": {"assessment_name": "n", "feedback": {"value": 1}}},
        {"assessment": {"assessment_name": "n"}},
    ),
]


@pytest.fixture
def site() -> Site:
    return Site()


def exchanges() -> list[Any]:
    documents = [(path.stem, json.loads(path.read_text())) for path in sorted(GOLDEN.glob("*.json"))]
    return [pytest.param(document["exchanges"], id=name) for name, document in documents]


async def send_again(site: Site, exchange: dict[str, Any]) -> httpx.Response:
    body = exchange.get("body", "").encode() or base64.b64decode(exchange.get("body_base64", ""))
    async with site.client() as client:
        return await client.request(
            exchange["method"], exchange["path"], content=body, headers=exchange["headers"]
        )


@pytest.mark.parametrize("sent", exchanges())
async def test_the_real_clients_are_answered_as_they_were_content_with(
    site: Site, sent: list[dict[str, Any]]
) -> None:
    for exchange in sent:
        answer = await send_again(site, exchange)
        assert (answer.status_code, answer.text) == (exchange["status"], exchange["answer"])
    stored = {topic: known(site, topic) for topic in site.log.records}
    assert len(stored["rejected"]) == 1
    for exchange in sent:
        await send_again(site, exchange)
    assert {topic: known(site, topic) for topic in site.log.records} == stored


def known(site: Site, topic: str) -> set[tuple[object, str]]:
    """Identity and content of what a topic holds, each once."""
    return {(event.identity, event.contenthash) for event in site.events(topic)}


async def told_by(client: str) -> list[Any]:
    """The payloads of all that a recorded client told, in order."""
    site = Site()
    for exchange in json.loads((GOLDEN / f"{client}.json").read_text())["exchanges"]:
        await send_again(site, exchange)
    return [decode_payload(event) for event in site.events()]


@pytest.mark.parametrize("client", ["langfuse_3", "langfuse_4", "langfuse_5"])
async def test_what_the_scores_of_a_real_client_say(client: str) -> None:
    given = [one for one in await told_by(client) if one.query_id == TRACE_ID]
    assert {(one.kind, one.value, one.text, one.name, one.target.span_id) for one in given} == {
        ("thumb", 1.0, None, "thumbs_up", None),
        ("score", 0.92, "clear and short", "accuracy", None),
        ("score", 0.5, None, "accuracy", None),
        ("comment", None, "positive", "sentiment", ANSWER_SPAN_ID),
        ("correction", None, "Pay by card at the desk.", "output", None),
        ("comment", None, "clear and short", "note", None),
    }


@pytest.mark.parametrize("client", ["langfuse_3", "langfuse_4", "langfuse_5"])
async def test_a_question_that_a_real_client_traced_and_scored(client: str) -> None:
    told = [one for one in await told_by(client) if one.query_id != TRACE_ID]
    assert len({one.query_id for one in told}) == 1
    (asked,) = [one for one in told if isinstance(one, QueryAsked) and not one.inferred]
    (answered,) = [one for one in told if isinstance(one, AnswerGiven)]
    (thumb,) = [one for one in told if isinstance(one, FeedbackGiven)]
    assert asked.text == QUESTION
    assert (answered.text, answered.generator) == (ANSWER, "m-1")
    assert (answered.input_tokens, answered.output_tokens) == (10, 5)
    assert (thumb.kind, thumb.value, thumb.target) == ("thumb", 1.0, Target())


@pytest.mark.parametrize(("path", "good", "bad"), BODIES, ids=[b[0] for b in BODIES])
async def test_every_route_asks_for_a_key_and_keeps_what_it_refuses(
    site: Site, path: str, good: Any, bad: Any
) -> None:
    assert (await site.send("POST", path, good, {})).status_code == 401
    assert (await site.send("POST", path, good, {"x-api-key": "read-only"})).status_code == 403
    assert not site.log.records
    for broken in (b"{", b"\xff", b"", b"[" * 9999):
        assert (await site.send("POST", path, broken)).status_code == 400
    # nothing that came with a key vanishes; in an empty body nothing came
    assert [one.reason for one in site.rejections()] == ["invalid_json"] * 3
    site.log.records.clear()
    assert (await site.send("POST", path, good)).status_code in (200, 202, 207)
    assert not site.rejections()
    if bad is not None:
        refused = await site.send("POST", path, bad)
        assert refused.status_code in (400, 422)
        (kept,) = site.rejections()
        assert kept.headers["path"] == path
        assert kept.headers["format"] in ("langfuse", "tensorzero", "phoenix", "ubi", "mlflow")
        assert kept.field
        again = decode_original(kept.headers["format"], kept.original)
        assert [type(item) for item in again] == [Undecoded]


@pytest.mark.parametrize(("path", "good", "_bad"), BODIES, ids=[b[0] for b in BODIES])
async def test_what_is_unconfirmed_is_503_and_may_be_sent_again(
    site: Site, path: str, good: Any, _bad: Any
) -> None:
    site.log.confirming = False
    answer = await site.send("POST", path, good)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    site.log.confirming = True
    assert (await site.send("POST", path, good)).status_code in (200, 202, 207)
    events = [event for topic in site.log.records for event in site.events(topic)]
    assert len({(event.identity, event.contenthash) for event in events}) == 1


async def test_a_body_may_be_packed_and_the_key_a_password(site: Site) -> None:
    basic = base64.b64encode(b"pk-lf-shop:acme-key").decode()
    headers = {
        "authorization": f"Basic {basic}",
        "content-encoding": "gzip",
        "content-type": "application/json",
    }
    answer = await site.send(
        "POST", "/api/public/scores", gzip.compress(json.dumps([SCORE]).encode()), headers
    )
    assert (answer.status_code, answer.json()) == (202, {"message": "Accepted"})


async def test_scores_one_and_many(site: Site) -> None:
    one = await site.send("POST", "/api/public/scores", {**SCORE, "id": "s-1"})
    assert (one.status_code, one.json()) == (200, {"id": "s-1"})
    many = await site.send("POST", "/api/public/scores", [SCORE, SESSION_SCORE])
    assert many.status_code == 207
    assert (many.json()["accepted"], many.json()["rejected"]) == (1, 1)
    assert "traceId" in many.json()["errors"][0]["message"]
    refused = await site.send("POST", "/api/public/scores", SESSION_SCORE)
    assert (refused.status_code, refused.json()["field"]) == (400, "traceId")
    assert "score the trace" in refused.json()["message"]
    assert (await site.send("POST", "/api/public/scores", [])).json() == {"message": "Accepted"}


async def test_what_of_a_batch_says_nothing_is_a_success_and_counted(site: Site) -> None:
    batch = [
        {"id": "e-1", "type": "span-create", "body": {"id": "o"}},
        {"id": "e-2", "type": "score-create", "body": SESSION_SCORE},
        {"id": "e-3", "type": "score-create", "body": SCORE},
        5,
    ]
    answer = (await site.send("POST", "/api/public/ingestion", {"batch": batch})).json()
    assert answer["successes"] == [{"id": "e-1", "status": 201}, {"id": "e-3", "status": 201}]
    assert [(error["id"], error["status"]) for error in answer["errors"]] == [("e-2", 400), ("", 400)]
    assert b'ratchet_ingest_ignored_total{door="langfuse"} 1.0' in site.metrics.render()
    assert len(site.rejections()) == 2


async def test_what_admission_refuses_is_named_in_the_senders_words(site: Site) -> None:
    answer = await site.send("POST", "/api/public/scores", {**SCORE, "traceId": "t" * 300})
    assert (answer.status_code, answer.json()["field"]) == (400, "traceId")
    (kept,) = site.rejections()
    assert [type(item) for item in decode_original(kept.headers["format"], kept.original)] == [bytes]


async def test_a_dry_run_checks_and_stores_nothing(site: Site) -> None:
    answer = await site.send("POST", "/feedback", {**METRIC, "dryrun": True})
    stored = await site.send("POST", "/feedback", METRIC)
    assert (answer.status_code, answer.json()) == (200, stored.json())
    for bad in ({"value": "good"}, {"episode_id": "e" * 300}):
        refused = await site.send("POST", "/feedback", {**METRIC, "dryrun": True, **bad})
        assert refused.status_code == 400
    assert refused.json()["field"] == "episode_id"
    assert len(site.events()) == 1
    assert not site.rejections()


async def test_annotations_some_of_which_are_refused(site: Site) -> None:
    position = {**ANNOTATION, "document_position": 1}
    answer = await site.send("POST", "/v1/document_annotations?sync=true", {"data": [position, ANNOTATION]})
    assert answer.status_code == 422
    assert "the other 1 are stored" in answer.json()["detail"]
    assert [result["status"] for result in answer.json()["results"]] == ["accepted", "rejected"]
    (event,) = site.events("waiting")
    assert decode_payload(event) == FeedbackReferred(
        reference="span:b7ad",
        kind="score",
        value=1.0,
        name="n",
        target=Target(kind="document", retrieval_id="b7ad", rank=2),
    )
    given = await site.send("POST", "/v1/document_annotations?sync=TRUE", {"data": [position]})
    assert given.json() == {"data": [{"id": event.id}]}
    assert (await site.send("POST", "/v1/document_annotations", {"data": [position]})).json() == {"data": []}


@pytest.mark.parametrize("path", ["/v1/ubi", "/ubi/queries", "/ubi/events"])
async def test_behaviour_one_many_and_a_line_each(site: Site, path: str) -> None:
    query = {"user_query": "toner", "query_id": "q-1", "query_response_hit_ids": ["a"]}
    one = (await site.send("POST", path, query)).json()
    assert (one["accepted"], one["ignored"]) == (2, 0)
    assert [result["index"] for result in one["results"]] == [0, 0]
    lines = b"\n".join(json.dumps(piece).encode() for piece in (query, EVENT)) + b"\nnonsense\n"
    several = await site.send("POST", path, lines, {**ACME, "content-type": "application/x-ndjson"})
    assert several.status_code == 207
    assert [result["index"] for result in several.json()["results"]] == [0, 0, 1, 2]
    impression = await site.send("POST", path, [{**EVENT, "action_name": "impression"}])
    assert (impression.status_code, impression.json()["ignored"]) == (202, 1)


async def test_a_line_too_many_is_413(site: Site) -> None:
    answer = await site.send("POST", "/v1/ubi", [EVENT] * 10_001)
    assert answer.status_code == 413
    assert not site.log.records


async def test_the_trace_of_an_assessment_is_in_the_path_too(site: Site) -> None:
    body = {"assessment": {"assessment_name": "n", "feedback": {"value": 1}}}
    answer = await site.send("POST", "/api/3.0/mlflow/traces/tr-0af7/assessments", body)
    assert answer.status_code == 200
    (event,) = site.events()
    assert (event.subject, answer.json()["assessment"]["assessment_id"]) == ("0af7", event.id)


async def test_what_tools_ask_before_they_send(site: Site) -> None:
    assert (await site.send("GET", "/arize_phoenix_version", headers={})).text == "12.0.0"
    assert (await site.send("GET", "/api/public/health", headers={})).json()["status"] == "OK"
    assert (await site.send("GET", "/api/public/projects", headers={})).status_code == 401
    (project,) = (await site.send("GET", "/api/public/projects")).json()["data"]
    assert project["name"] == "acme"
