"""A RAG application traced by OpenInference's own package, with fixed ids and times; sent by any exporter.

Knows nothing of ours: the recorder of the JSON exporter runs it in an environment of its own.
"""

from __future__ import annotations

import itertools
from typing import Any, Final

from openinference.instrumentation import (
    get_annotation_attributes,
    get_evaluation_attributes,
    get_input_attributes,
    get_llm_attributes,
    get_metadata_attributes,
    get_output_attributes,
    get_reranker_attributes,
    get_retriever_attributes,
    get_session_attributes,
    get_span_kind_attributes,
    get_tag_attributes,
    get_user_id_attributes,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import Span, StatusCode, Tracer, set_span_in_context

START_NS: Final = 1_772_443_700_000_000_000
TRACE_ID: Final = "a" * 31 + "1"
QUESTION: Final = "how do I reset my password?"
ANSWER: Final = "Open settings, then security."


class CountingIds(IdGenerator):  # type: ignore[misc]
    """Ids 1, 2, 3, … so that what is sent can be compared."""

    def __init__(self) -> None:
        self._spans = itertools.count(0xB000000000000001)
        self._traces = itertools.count(int(TRACE_ID, 16))

    def generate_span_id(self) -> int:
        return next(self._spans)

    def generate_trace_id(self) -> int:
        return next(self._traces)


class Kept(SpanExporter):  # type: ignore[misc]
    """Keeps spans, to be exported by another exporter, in any order."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def export(self, spans: Any) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def provider() -> TracerProvider:
    """Spans of a service named `shop`, with counted ids."""
    return TracerProvider(resource=Resource({"service.name": "shop"}), id_generator=CountingIds())


def _span(tracer: Tracer, name: str, kind: str, at_ms: int, parent: Span | None = None, **more: Any) -> Span:
    return tracer.start_span(
        name,
        context=None if parent is None else set_span_in_context(parent),
        start_time=START_NS + at_ms * 1_000_000,
        attributes={**more.get("attributes", {}), **get_span_kind_attributes(kind)},
    )


def _end(span: Span, at_ms: int) -> None:
    span.end(START_NS + at_ms * 1_000_000)


def ask(tracer: Tracer) -> None:
    """One question: chain → search, reranking, prompt, model call, rated by a person and by a model."""
    who = {
        **get_user_id_attributes(user_id="ada"),
        **get_session_attributes(session_id="s-1"),
        **get_metadata_attributes(metadata={"country": "CH", "beta": True}),
        **get_tag_attributes(tags=["web", "help"]),
    }
    root = _span(tracer, "ask", "chain", 0, attributes={**who, **get_input_attributes(QUESTION)})
    search = _span(tracer, "search", "retriever", 10, root, attributes=get_input_attributes("password reset"))
    search.set_attributes(
        get_retriever_attributes(
            documents=[
                {"id": "d1", "content": "Passwords", "score": 0.9, "metadata": {"lang": "en"}},
                {"id": 2, "content": "Résumé", "score": 1},
                {"content": "no id"},
            ]
        )
    )
    _end(search, 30)
    rerank = _span(tracer, "rerank", "reranker", 30, root)
    rerank.set_attributes(
        get_reranker_attributes(query=QUESTION, output_documents=[{"id": "2", "score": 0.7}, {"id": "d1"}])
    )
    _end(rerank, 42)
    embed = _span(tracer, "embed", "embedding", 42, root)
    _end(embed, 43)
    plain = tracer.start_span("GET /", context=set_span_in_context(root), start_time=START_NS + 43_000_000)
    _end(plain, 44)
    model = _span(tracer, "generate", "llm", 50, root)
    model.set_attributes(
        get_llm_attributes(
            model_name="m-1",
            input_messages=[
                {"role": "system", "content": "be brief"},
                {"role": "user", "content": f"Context: … Question: {QUESTION}"},
            ],
            output_messages=[{"role": "assistant", "content": ANSWER}],
            token_count={"prompt": 30, "completion": 7, "total": 37},
        )
    )
    model.set_attributes(
        get_annotation_attributes(
            annotations=[
                {
                    "name": "correctness",
                    "score": 0.5,
                    "label": "partly",
                    "explanation": "misses a step",
                    "annotator_kind": "CODE",
                    "identifier": "v2",
                    "metadata": {"judge": "j1"},
                }
            ]
        )
    )
    _end(model, 250)
    root.set_attributes(get_output_attributes(ANSWER))
    root.set_attributes(
        get_annotation_attributes(
            annotations=[
                {"name": "user_feedback", "label": "👍", "annotator_kind": "HUMAN"},
                {"name": "note", "explanation": "nice"},
            ],
            scope="trace",
        )
    )
    root.set_attributes(get_evaluation_attributes(evaluations=[{"name": "faithfulness", "score": 1}]))
    _end(root, 260)


def fail(tracer: Tracer) -> None:
    """A search that raised, below a request of a web server."""
    request = tracer.start_span("GET /search", start_time=START_NS)
    search = _span(tracer, "search", "retriever", 5, request, attributes=get_input_attributes("lost words"))
    search.record_exception(TimeoutError("index away"), timestamp=START_NS + 6_000_000)
    search.set_status(StatusCode.ERROR)
    _end(search, 15)
    _end(request, 16)
