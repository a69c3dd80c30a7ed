"""POST /v1/traces by the real packages: OpenTelemetry's exporter, OpenInference's and GenAI's spans."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.util.genai.environment_variables import OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
from opentelemetry.util.genai.handler import TelemetryHandler
from opentelemetry.util.genai.types import InputMessage, OutputMessage, RetrievalDocument, TextPart

from ingest.formats.items import Undecoded
from ingest.formats.otlp.traces import OTLP
from ingest.formats.registry import decode_original
from ingest.settings import IngestSettings
from schemas.codec import decode_payload
from schemas.documents import text_hash
from schemas.envelope import Event
from schemas.interactions import AnswerGiven, FeedbackGiven, Hit, QueryAsked, RetrievalServed, Target
from schemas.waiting import FeedbackReferred, QueryNamed
from streams.fold import fold_episode
from streams.records import read_record
from tests import traced_app
from tests.asgi_session import session_into
from tests.unit.http_door import ACME, Full, Site

RECORDED = Path(__file__).parents[1] / "golden"
GOLDEN = json.loads((RECORDED / "otlp_json_v1.json").read_text())
LANGFUSE = json.loads((RECORDED / "otlp_langfuse_5.json").read_text())
TRACE = traced_app.TRACE_ID
ROOT, SEARCH, RERANK, MODEL = (f"b00000000000000{n}" for n in (1, 2, 3, 6))


def traced() -> list[Any]:
    """The spans of the application, children first, as a batch holds them."""
    kept, provider = traced_app.Kept(), traced_app.provider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("golden")
    traced_app.ask(tracer)
    traced_app.fail(tracer)
    return kept.spans


def export(site: Site, spans: Sequence[Any], compression: Compression = Compression.Gzip) -> SpanExportResult:
    session, _ = session_into(site)
    exporter = OTLPSpanExporter(
        "http://ratchet/v1/traces",
        headers={"authorization": "Bearer acme-key"},
        compression=compression,
        session=session,
        timeout=1,
    )
    return exporter.export(spans)


def told(site: Site, kind: type, topic: str = "interactions") -> list[Any]:
    payloads = [decode_payload(event) for event in site.events(topic)]
    return [payload for payload in payloads if isinstance(payload, kind)]


def content(events: Sequence[Event]) -> set[tuple[str, str, str, str]]:
    return {(event.subject or "", event.source, event.id, event.contenthash) for event in events}


@pytest.fixture
def site() -> Site:
    return Site()


def test_a_traced_question_becomes_a_query_with_its_lists_answer_and_feedback(site: Site) -> None:
    assert export(site, traced()) is SpanExportResult.SUCCESS
    assert site.rejections() == []
    assert {event.source for event in site.events()} == {"urn:ratchet:otlp:shop"}
    assert {event.door for event in site.events()} == {"otlp"}
    (asked,) = [one for one in told(site, QueryAsked) if not one.inferred]
    assert asked == QueryAsked(
        query_id=TRACE,
        text=traced_app.QUESTION,
        user="ada",
        session="s-1",
        attributes={"metadata.country": "CH", "metadata.beta": True, "tags": '["web","help"]'},
    )
    first, reranked, _ = told(site, RetrievalServed)
    assert first == RetrievalServed(
        query_id=TRACE,
        retrieval_id=SEARCH,
        hits=(
            Hit("d1", 1, text_hash=text_hash("", "Passwords"), score=0.9),
            Hit("2", 2, text_hash=text_hash("", "Résumé"), score=1.0),
            Hit(f"text:{text_hash('', 'no id')}", 3, text_hash=text_hash("", "no id")),
        ),
        latency_ms=20.0,
    )
    assert reranked == RetrievalServed(
        query_id=TRACE, retrieval_id=RERANK, hits=(Hit("2", 1, score=0.7), Hit("d1", 2)), latency_ms=12.0
    )
    assert told(site, AnswerGiven) == [
        AnswerGiven(
            query_id=TRACE,
            answer_id=MODEL,
            text=traced_app.ANSWER,
            generator="m-1",
            input_tokens=30,
            output_tokens=7,
            latency_ms=200.0,
        )
    ]
    assert told(site, FeedbackGiven) == [
        FeedbackGiven(
            query_id=TRACE,
            kind="score",
            value=0.5,
            text="misses a step",
            rater="code",
            name="correctness",
            target=Target(kind="answer", answer_id=MODEL),
            attributes={"label": "partly", "identifier": "v2", "metadata.judge": "j1"},
        ),
        FeedbackGiven(
            query_id=TRACE, kind="thumb", value=1.0, name="user_feedback", attributes={"label": "👍"}
        ),
        FeedbackGiven(query_id=TRACE, kind="comment", text="nice", name="note"),
        FeedbackGiven(query_id=TRACE, kind="score", value=1.0, rater="llm", name="faithfulness"),
    ]


def test_a_search_that_failed_below_a_web_server_says_what_it_knows(site: Site) -> None:
    export(site, traced())
    failed = told(site, RetrievalServed)[-1]
    assert (failed.hits, failed.error, failed.latency_ms) == ((), "index away", 10.0)
    asked = told(site, QueryAsked)[-1]
    assert (asked.query_id, asked.text, asked.inferred) == (failed.query_id, "lost words", True)


def test_every_span_that_feedback_may_know_is_named_with_what_it_is(site: Site) -> None:
    export(site, traced()[:-2])
    named = [one for one in told(site, QueryNamed, "waiting") if one.reference.startswith("span:")]
    assert {(one.reference, one.retrieval_id, one.answer_id) for one in named} == {
        (f"span:{ROOT}", None, None),
        (f"span:{SEARCH}", SEARCH, None),
        (f"span:{RERANK}", RERANK, None),
        (f"span:{MODEL}", None, MODEL),
    }
    assert {one.query_id for one in named} == {TRACE}


def test_what_says_nothing_is_counted(site: Site) -> None:
    export(site, traced())
    counts = {
        outcome: site.metrics.registry.get_sample_value("ratchet_otlp_spans_total", {"outcome": outcome})
        for outcome in ("read", "refused", "kind", "foreign", "empty")
    }
    assert counts == {"read": 5.0, "refused": None, "kind": 1.0, "foreign": 2.0, "empty": None}


@pytest.mark.parametrize("compression", list(Compression))
def test_the_exporter_may_compress(site: Site, compression: Compression) -> None:
    assert export(site, traced(), compression) is SpanExportResult.SUCCESS
    assert len(site.events()) == 12


async def test_the_json_exporter_says_the_same(site: Site) -> None:
    answer = await site.send("POST", GOLDEN["path"], GOLDEN["body"], {**ACME, **GOLDEN["headers"]})
    assert (answer.status_code, answer.json()) == (200, {})
    protobuf = Site()
    await send_protobuf(protobuf, traced())
    for topic in ("interactions", "waiting"):
        assert content(site.events(topic)) == content(protobuf.events(topic)), topic


async def send_protobuf(site: Site, spans: Sequence[Any], path: str = "/v1/traces") -> Any:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    body = encode_spans(spans).SerializeToString()
    return await site.send("POST", path, body, {**ACME, "content-type": "application/x-protobuf"})


async def test_spans_in_any_order_and_in_many_requests_are_the_same_events() -> None:
    spans = traced()
    expected = Site()
    await send_protobuf(expected, spans)
    for order in itertools.islice(itertools.permutations(spans), 0, None, 4001):
        site = Site()
        for cut in (order[:1], order[1:4], order[4:], order[:2]):
            await send_protobuf(site, cut)
        for topic in ("interactions", "waiting"):
            assert content(site.events(topic)) == content(expected.events(topic))
        ours = [read_record(event) for event in site.events() if event.subject == TRACE]
        episode = fold_episode(ours)
        assert (episode.text, episode.unit) == (traced_app.QUESTION, "ada")
        assert [one.retrieval_id for one in episode.retrievals] == [SEARCH, RERANK]


async def test_langfuses_own_client_sends_its_traces_to_its_own_path(site: Site) -> None:
    body = base64.b64decode(LANGFUSE["body_base64"])
    answer = await site.send("POST", LANGFUSE["path"], body, LANGFUSE["headers"])
    assert (answer.status_code, site.rejections()) == (200, [])
    asked = {(one.text, one.user, one.session, one.inferred) for one in told(site, QueryAsked)}
    assert asked == {
        ("how do I pay", "ada", "s-1", False),
        ("pay", "ada", "s-1", True),
        ("how do I pay", "ada", "s-1", True),
    }
    assert told(site, QueryAsked)[0].attributes == {"metadata.country": "CH", "tags": '["web"]'}
    (served,), (given,) = told(site, RetrievalServed), told(site, AnswerGiven)
    assert served.hits == (Hit("d1", 1, text_hash=text_hash("", "By card"), score=0.5), Hit("d2", 2))
    assert (given.text, given.generator, given.input_tokens, given.output_tokens, given.cost_usd) == (
        "by card",
        "m-1",
        3,
        2,
        0.01,
    )


async def test_the_first_span_of_a_process_knows_the_question_and_gives_way_to_the_root(site: Site) -> None:
    def chain(span_id: str, text: str, **more: Any) -> dict[str, Any]:
        return plain_span({"openinference.span.kind": "CHAIN", "input.value": text}, spanId=span_id, **more)

    some = [
        chain("1" * 16, "inner", parentSpanId="2" * 16, flags=0x101),
        chain("2" * 16, "entry", parentSpanId="3" * 16, flags=0x301),
        chain("3" * 16, "root"),
    ]
    body = {"resourceSpans": [{"scopeSpans": [{"spans": some}]}]}
    await site.send("POST", "/v1/traces", body)
    assert [(one.text, one.inferred) for one in told(site, QueryAsked)] == [("entry", True), ("root", False)]


def plain_span(attributes: dict[str, Any], **more: Any) -> dict[str, Any]:
    values = [
        {"key": key, "value": value if isinstance(value, dict) else {"stringValue": value}}
        for key, value in attributes.items()
    ]
    times = {"startTimeUnixNano": "1772443800000000000", "endTimeUnixNano": "1772443801000000000"}
    return {"traceId": "c" * 32, "spanId": "d" * 16, "name": "x", **times, "attributes": values, **more}


def one_span(attributes: dict[str, Any], **more: Any) -> bytes:
    return json.dumps(
        {"resourceSpans": [{"scopeSpans": [{"spans": [plain_span(attributes, **more)]}]}]}
    ).encode()


def test_spans_of_the_genai_conventions(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "SPAN_ONLY")
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    kept, provider = traced_app.Kept(), traced_app.provider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    handler = TelemetryHandler(tracer_provider=provider)
    with handler.invoke_local_agent(agent_name="shop-agent"):
        with handler.retrieval(provider="index") as search:
            search.query_text = "password reset"
            search.documents = [RetrievalDocument(id="d1", score=0.5), RetrievalDocument(id="d2")]
        with handler.inference("openai", request_model="m-1", conversation_id="talk-1") as call:
            call.input_messages = [InputMessage("user", [TextPart(traced_app.QUESTION)])]
            call.output_messages = [OutputMessage("assistant", [TextPart(traced_app.ANSWER)])]
            call.response_model_name = "m-1-2026"
            call.response_id = "resp-1"
            call.input_tokens, call.output_tokens = 11, 5
    assert export(site, kept.spans) is SpanExportResult.SUCCESS
    assert site.rejections() == []
    (served,) = told(site, RetrievalServed)
    assert served.hits == (Hit("d1", 1, score=0.5), Hit("d2", 2))
    (given,) = told(site, AnswerGiven)
    assert (given.text, given.generator) == (traced_app.ANSWER, "m-1-2026")
    assert (given.input_tokens, given.output_tokens) == (11, 5)
    asked = {(one.text, one.session, one.inferred) for one in told(site, QueryAsked)}
    assert asked == {("password reset", None, True), (traced_app.QUESTION, "talk-1", True)}
    names = {one.reference: one.answer_id for one in told(site, QueryNamed, "waiting")}
    assert names["answer:resp-1"] == names[f"span:{given.answer_id}"] == given.answer_id


async def test_an_evaluation_of_another_spans_answer_waits_for_its_name(site: Site) -> None:
    def evaluation(response_id: str) -> dict[str, Any]:
        attributes = {
            "gen_ai.evaluation.name": {"stringValue": "relevance"},
            "gen_ai.evaluation.score.value": {"doubleValue": 0.25},
            "gen_ai.evaluation.score.label": {"stringValue": "low"},
            "gen_ai.evaluation.explanation": {"stringValue": "off topic"},
            "gen_ai.response.id": {"stringValue": response_id},
        }
        return {
            "name": "gen_ai.evaluation.result",
            "timeUnixNano": "1772443800500000000",
            "attributes": [{"key": key, "value": value} for key, value in attributes.items()],
        }

    body = one_span(
        {"gen_ai.operation.name": "chat", "gen_ai.response.id": "resp-1"},
        events=[evaluation("resp-1"), evaluation("resp-2")],
    )
    await site.send("POST", "/v1/traces", body, {**ACME, "content-type": "application/json"})
    said: dict[str, Any] = {
        "kind": "score",
        "value": 0.25,
        "text": "off topic",
        "rater": "llm",
        "name": "relevance",
        "attributes": {"label": "low"},
    }
    own = Target(kind="answer", answer_id="d" * 16)
    assert told(site, FeedbackGiven) == [FeedbackGiven(query_id="c" * 32, target=own, **said)]
    other = Target(kind="answer", answer_id="resp-2")
    assert told(site, FeedbackReferred, "waiting") == [
        FeedbackReferred(reference="answer:resp-2", target=other, **said)
    ]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"traceId": "xyz"}, "traceId"),
        ({"traceId": "0" * 32}, "traceId"),
        ({"spanId": ""}, "spanId"),
        ({"parentSpanId": "12"}, "parentSpanId"),
        ({"startTimeUnixNano": "-1"}, "startTimeUnixNano"),
        ({"endTimeUnixNano": "9" * 5000}, "endTimeUnixNano"),
        ({"attributes": [{"key": "x", "value": {"intValue": "9" * 30}}]}, "attributes.x"),
        ({"attributes": [{"key": "x", "value": {"strangeValue": 1}}]}, "attributes.x"),
        ({"attributes": 7}, "attributes"),
    ],
)
async def test_a_bad_span_is_kept_alone_and_can_be_mended(
    site: Site, change: dict[str, Any], field: str
) -> None:
    good = plain_span({"openinference.span.kind": "LLM", "output.value": "yes"})
    bad = {**plain_span({"openinference.span.kind": "LLM"}), **change}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]}
    body = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": [bad, good]}]}]}
    answer = await site.send("POST", "/v1/traces", body)
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert f"({field})" in answer.json()["partialSuccess"]["errorMessage"]
    (entry,) = site.rejections()
    assert (entry.field, entry.headers["format"]) == (field, "otlp")
    (again,) = decode_original("otlp", entry.original)
    assert isinstance(again, Undecoded)
    assert again.original == entry.original
    mended = json.loads(entry.original)
    mended["resourceSpans"][0]["scopeSpans"][0]["spans"][0].update(
        plain_span({"input.value": "now well"}, parentSpanId="")
    )
    event = json.loads(bytes(decode_original("otlp", json.dumps(mended).encode())[0]))  # type: ignore[arg-type]
    assert (event["source"], event["data"]["text"]) == ("urn:ratchet:otlp:shop", "now well")


async def test_a_protobuf_answer_counts_refused_spans_and_their_bytes_are_json(site: Site) -> None:
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    request = encode_spans(traced())
    request.resource_spans[0].scope_spans[0].spans[0].trace_id = b"short"
    body = request.SerializeToString()
    answer = await site.send("POST", "/v1/traces", body, {**ACME, "content-type": "application/x-protobuf"})
    assert answer.headers["content-type"] == "application/x-protobuf"
    said = ExportTraceServiceResponse.FromString(answer.content).partial_success
    assert (said.rejected_spans, said.error_message.startswith("traceId: expected 32 hex digits")) == (
        1,
        True,
    )
    (entry,) = site.rejections()
    mended = entry.original.replace(b"short".hex().encode(), b"a" * 32)
    texts = [json.loads(bytes(item))["data"] for item in OTLP.decode(mended)]  # type: ignore[arg-type]
    assert texts[1]["hits"][1]["document_id"] == "2"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"\xff\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"\x0a\x05\x12\x03\x0a\x01\xff", {"content-type": "application/x-protobuf"}, 400),
        (b"{", {"content-type": "application/json"}, 400),
        (b"[]", {"content-type": "application/json"}, 400),
        (b"[" * 100_000, {"content-type": "application/json"}, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (b"", {"content-type": "application/x-protobuf"}, 200),
        (b"{}", {"content-type": "application/json"}, 200),
    ],
)
async def test_a_body_that_is_no_request(
    site: Site, body: bytes, headers: dict[str, str], status: int
) -> None:
    answer = await site.send("POST", "/v1/traces", body, {**ACME, **headers})
    assert answer.status_code == status
    kept = [(one.reason, one.original[:16], one.headers["format"]) for one in site.rejections()]
    assert kept == ([("invalid_json", body[:16], "otlp")] if status == 400 else [])


async def test_an_unconfirmed_append_is_sent_again_by_the_exporter() -> None:
    site = Site()
    site.log.confirming = False
    answer = await send_protobuf(site, traced())
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) >= 1
    full = await send_protobuf(Site(log=Full()), traced())
    assert (full.status_code, full.headers["retry-after"]) == (503, "3")


async def test_without_a_key_nothing_is_taken(site: Site) -> None:
    assert (await site.send("POST", "/v1/traces", b"{}", {})).status_code == 401


async def test_a_long_prompt_is_a_shortened_guess_at_the_question_and_not_refused(site: Site) -> None:
    prompt = plain_span(
        {"openinference.span.kind": "LLM", "input.value": "x" * 300_000}, parentSpanId="e" * 16
    )
    body = {"resourceSpans": [{"scopeSpans": [{"spans": [prompt]}]}]}
    answer = await site.send("POST", "/v1/traces", body)
    assert answer.json() == {}
    assert [len(one.text) for one in told(site, QueryAsked)] == [4000]


async def test_a_request_may_make_more_events_than_a_door_takes_at_once() -> None:
    site = Site(IngestSettings(max_events=100))
    spans = [
        plain_span({"openinference.span.kind": "LLM", "output.value": f"{n}"}, spanId=f"{n + 1:016x}")
        for n in range(300)
    ]
    body = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
    answer = await site.send("POST", "/v1/traces", body)
    assert (answer.status_code, answer.json()) == (200, {})
    assert [one.text for one in told(site, AnswerGiven)] == [str(n) for n in range(300)]


def test_lines_are_requests_and_a_bad_one_is_kept_alone() -> None:
    body = b"\n".join([one_span({"input.value": "first"}), b"{no json", one_span({"input.value": "second"})])
    items = OTLP.decode(body)
    assert [isinstance(item, Undecoded) for item in items] == [False, False, True, False, False]
