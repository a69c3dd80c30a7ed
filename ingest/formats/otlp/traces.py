"""A span → our events. See the package for what becomes what."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, Literal

from msgspec import Struct

from ingest.formats.items import Item, Undecoded
from ingest.formats.otlp.feedback import RESPONSE_ID, feedback_of
from ingest.formats.otlp.json_text import read_json, split_traces
from ingest.formats.otlp.parts import (
    answer_of,
    count_of,
    documents_of,
    finite,
    from_json,
    question_of,
    structured,
)
from ingest.formats.otlp.protobuf import ProtobufSpan
from ingest.formats.otlp.spans import Span, moment
from ingest.formats.pieces import Format, Piece, compose, flatten
from schemas.errors import Rejectable
from schemas.ids import derive_id
from schemas.interactions import AnswerGiven, Attribute, QueryAsked, RetrievalServed, Target
from schemas.waiting import QueryNamed, answer_reference, span_reference

#: What became of a span: `read` into events; `refused`; it has a kind that we do not read (`kind`), or none
#: of OpenInference or GenAI at all (`foreign`), or says none of what its kind may say (`empty`).
Outcome = Literal["read", "refused", "kind", "foreign", "empty"]

_OPERATIONS: Final = {
    "chat": "LLM",
    "text_completion": "LLM",
    "generate_content": "LLM",
    "retrieval": "RETRIEVER",
    "invoke_agent": "AGENT",
    "invoke_workflow": "CHAIN",
}
_OBSERVATIONS: Final = {
    "generation": "LLM",
    "retriever": "RETRIEVER",
    "agent": "AGENT",
    "chain": "CHAIN",
    "span": "CHAIN",
}
#: Kinds that may be what somebody asked; the root of an indexing run is an EMBEDDING.
_ASKING: Final = frozenset({"CHAIN", "AGENT", "LLM", "RETRIEVER", "RERANKER", ""})
#: Below the root these know a question, if perhaps reworded.
_KNOWING: Final = frozenset({"AGENT", "LLM", "RETRIEVER"})
#: A prompt with all its documents is no question, and must not be refused as too large a one.
_GUESS_CHARACTERS: Final = 4000
_NAMED: Final = frozenset({"CHAIN", "AGENT", "LLM", "RETRIEVER", "RERANKER"})


class SpanEvents(Struct, frozen=True):
    """The events of one span, and what became of it."""

    outcome: Outcome
    items: list[Item]


def kind_of(span: Span) -> str:
    """OpenInference's kind of the span, or what GenAI or Langfuse would call so; '' if it has none."""
    attributes = span.attributes
    for name, kinds in (
        ("openinference.span.kind", None),
        ("gen_ai.operation.name", _OPERATIONS),
        ("langfuse.observation.type", _OBSERVATIONS),
    ):
        told = attributes.get(name)
        if isinstance(told, str) and told:
            kind = told.upper() if kinds is None else kinds.get(told, "OTHER")
            return "" if kind == "UNKNOWN" else kind
    return ""


def read_span(span: Span) -> SpanEvents:
    """All that a span says to us. Raises Rejectable: a time of it is none."""
    kind = kind_of(span)
    items: list[Item] = list(_events(span, kind))
    if items:
        return SpanEvents("read", items)
    if kind in _NAMED:
        return SpanEvents("empty", [])
    return SpanEvents("kind" if kind else "foreign", [])


def read_protobuf(span: ProtobufSpan) -> SpanEvents:
    """As `read_span`; what is refused is kept as a request of one span in OTLP's JSON."""
    try:
        return read_span(span.read())
    except Rejectable as why:
        return SpanEvents("refused", [Undecoded(span.piece(), why)])


def read_piece(piece: Piece) -> SpanEvents:
    """As `read_span`, of a piece of `split_traces`."""
    try:
        return read_span(read_json(piece))
    except Rejectable as why:
        return SpanEvents("refused", [Undecoded(bytes(piece), why)])


def _events(span: Span, kind: str) -> Iterator[bytes]:
    started = moment(span.start_ns, "startTimeUnixNano")
    ended = moment(span.end_ns, "endTimeUnixNano") or started

    def event(payload: Any, role: str, time: Any) -> bytes:
        id_ = derive_id("otlp", span.trace_id, span.span_id, role)
        return compose(payload, source=span.source, id=id_, time=time)

    query = _query(span, kind)
    if query is not None:
        yield event(query, "query", started)
    if kind in ("RETRIEVER", "RERANKER"):
        yield event(_retrieval(span, kind), "retrieval", ended)
    if kind == "LLM":
        yield event(_answer(span), "answer", ended)
        response_id = span.text(RESPONSE_ID)
        if response_id:
            yield event(_name(span, kind, answer_reference(response_id)), "answer-name", ended)
    if kind in _NAMED or query is not None:
        yield event(_name(span, kind, span_reference(span.span_id)), "span-name", ended)
    for said in feedback_of(span, _target(span, kind)):
        yield event(said.payload, said.role, said.time)


def _query(span: Span, kind: str) -> QueryAsked | None:
    if kind not in (_ASKING if span.is_entry else _KNOWING):
        return None
    text = question_of(span)
    if not text:
        return None
    return QueryAsked(
        query_id=span.trace_id,
        text=text if span.is_root else text[:_GUESS_CHARACTERS],
        user=span.text("user.id", "enduser.id") or None,
        session=span.text("session.id", "gen_ai.conversation.id") or None,
        attributes=_circumstances(span),
        inferred=not span.is_root,
    )


def _circumstances(span: Span) -> dict[str, Attribute]:
    attributes = span.attributes
    found: dict[str, Attribute] = {}
    for name in ("metadata", "langfuse.trace.metadata"):
        found |= flatten("metadata", structured(attributes.get(name)))
    for name in ("tag.tags", "langfuse.trace.tags"):
        found |= flatten("tags", structured(attributes.get(name)))
    for key, value in attributes.items():
        name = key.removeprefix("langfuse.trace.metadata.")
        if name != key and name:
            found |= flatten(f"metadata.{name}", from_json(value))
    return found


def _retrieval(span: Span, kind: str) -> RetrievalServed:
    return RetrievalServed(
        query_id=span.trace_id,
        retrieval_id=span.span_id,
        pipeline_version=span.text("ratchet.pipeline_version"),
        hits=documents_of(span, kind == "RERANKER"),
        latency_ms=span.latency_ms,
        error=_error(span),
    )


def _answer(span: Span) -> AnswerGiven:
    attributes = span.attributes
    usage = _object(attributes.get("langfuse.observation.usage_details"))
    cost = _object(attributes.get("langfuse.observation.cost_details"))
    cost_usd = finite(attributes.get("llm.cost.total", cost.get("total")))
    return AnswerGiven(
        query_id=span.trace_id,
        answer_id=span.span_id,
        text=answer_of(span),
        generator=span.text(
            "gen_ai.response.model",
            "llm.response.model_name",
            "llm.model_name",
            "gen_ai.request.model",
            "langfuse.observation.model.name",
        ),
        input_tokens=count_of(attributes, "gen_ai.usage.input_tokens", "llm.token_count.prompt")
        or count_of(usage, "input"),
        output_tokens=count_of(attributes, "gen_ai.usage.output_tokens", "llm.token_count.completion")
        or count_of(usage, "output"),
        cost_usd=cost_usd if cost_usd is not None and cost_usd >= 0 else None,
        latency_ms=span.latency_ms,
        error=_error(span),
    )


def _object(value: Any) -> dict[str, Any]:
    found = structured(value)
    return found if isinstance(found, dict) else {}


def _name(span: Span, kind: str, reference: str) -> QueryNamed:
    return QueryNamed(
        reference=reference,
        query_id=span.trace_id,
        answer_id=span.span_id if kind == "LLM" else None,
        retrieval_id=span.span_id if kind in ("RETRIEVER", "RERANKER") else None,
    )


def _target(span: Span, kind: str) -> Target:
    """The span, in the words of its query."""
    if kind == "LLM":
        return Target(kind="answer", answer_id=span.span_id)
    if kind in ("RETRIEVER", "RERANKER"):
        return Target(kind="retrieval", retrieval_id=span.span_id)
    return Target() if span.is_root else Target(kind="span", span_id=span.span_id)


def _error(span: Span) -> str | None:
    """Why it failed; None if it did not."""
    if not span.failed and span.attributes.get("langfuse.observation.level") != "ERROR":
        return None
    raised = [one.attributes for one in span.events if one.name == "exception"]
    messages = [str(one["exception.message"]) for one in raised if one.get("exception.message")]
    told = span.status_message or span.text("langfuse.observation.status_message")
    return told or "".join(messages[-1:]) or span.text("error.type") or "failed"


OTLP: Final = Format(
    name="otlp",
    about="OpenTelemetry traces in OTLP's JSON, a request or one a line",
    source="urn:ratchet:otlp",
    split=split_traces,
    read=lambda piece: read_piece(piece).items,
    fields={
        "data.query_id": "traceId",
        "data.retrieval_id": "spanId",
        "data.answer_id": "spanId",
        "data.target": "spanId",
        "data.latency_ms": "endTimeUnixNano",
        "data.error": "status.message",
        "time": "endTimeUnixNano",
        "data": "attributes",
    },
)
