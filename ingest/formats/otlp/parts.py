"""What attributes spell out: numbered lists, documents, messages, JSON in a text."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from ingest.formats.messages import spoken_text
from ingest.formats.otlp.spans import Attributes, Span
from ingest.refusals import DECODER_ERRORS
from schemas.documents import text_hash
from schemas.interactions import Hit

_decode: Final = msgspec.json.Decoder().decode
_DOCUMENT_IDS: Final = ("id", "document_id", "doc_id", "documentId")
_DOCUMENT_TEXTS: Final = ("content", "page_content", "text")


def numbered(attributes: Attributes, prefix: str) -> list[tuple[int, Attributes]]:
    """`<prefix>.<i>.<name>` → (i, {name: value}), by i."""
    found: dict[int, Attributes] = {}
    start = f"{prefix}."
    for key, value in attributes.items():
        if key.startswith(start):
            place, _, name = key[len(start) :].partition(".")
            if place.isascii() and place.isdigit() and len(place) < 10:
                found.setdefault(int(place), {})[name] = value
    return sorted(found.items())


def structured(value: Any) -> Any:
    """The value, or what it holds if it is a text in JSON (an object or an array)."""
    return from_json(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value


def from_json(value: Any) -> Any:
    """The value of a text in JSON, whatever it is; the text itself if it is none."""
    try:
        return _decode(value) if isinstance(value, str) else value
    except DECODER_ERRORS:
        return value


def said_in(value: Any, role: str) -> str:
    """The text of a logged input or output, or ''. JSON of no known shape is itself the text."""
    inner = structured(value)
    spoken = spoken_text(_contents(inner), role)
    if spoken is None and isinstance(value, str) and isinstance(inner, dict):
        return value
    return spoken or ""


def _contents(value: Any) -> Any:
    """GenAI messages hold `parts`; of these only the texts are said."""
    if isinstance(value, list):
        return [_contents(one) for one in value]
    if isinstance(value, dict) and isinstance(value.get("parts"), list):
        texts = [
            part
            for part in value["parts"]
            if not isinstance(part, dict) or part.get("type", "text") in ("text", None)
        ]
        return {**value, "content": texts}
    return value


def message_text(attributes: Attributes, prefix: str, role: str) -> str:
    """The last message of this role in OpenInference's numbered messages; '' if there is none."""
    text = ""
    for _, message in numbered(attributes, prefix):
        if message.get("message.role", role) == role:
            content = message.get("message.content")
            if not isinstance(content, str):
                content = "\n".join(
                    part["message_content.text"]
                    for _, part in numbered(message, "message.contents")
                    if isinstance(part.get("message_content.text"), str)
                )
            text = content or text
    return text


def question_of(span: Span) -> str:
    """What was asked, as far as this span knows; ''."""
    attributes = span.attributes
    return (
        span.text("gen_ai.retrieval.query.text", "reranker.query")
        or message_text(attributes, "llm.input_messages", "user")
        or said_in(attributes.get("gen_ai.input.messages"), "user")
        or said_in(attributes.get("input.value"), "user")
        or said_in(attributes.get("langfuse.observation.input"), "user")
    )


def answer_of(span: Span) -> str:
    """What a model said; ''."""
    attributes = span.attributes
    return (
        message_text(attributes, "llm.output_messages", "assistant")
        or said_in(attributes.get("gen_ai.output.messages"), "assistant")
        or said_in(attributes.get("output.value"), "assistant")
        or said_in(attributes.get("langfuse.observation.output"), "assistant")
    )


def documents_of(span: Span, reranked: bool) -> tuple[Hit, ...]:
    """The documents of a search, in its order."""
    prefix = "reranker.output_documents" if reranked else "retrieval.documents"
    listed: Sequence[tuple[int, Any]] = [
        (place, {name.removeprefix("document."): value for name, value in document.items()})
        for place, document in numbered(span.attributes, prefix)
    ]
    if not listed:
        names = (prefix, "gen_ai.retrieval.documents", "langfuse.observation.output", "output.value")
        for name in names:
            documents = structured(span.attributes.get(name))
            if isinstance(documents, dict):
                documents = documents.get("documents")
            if isinstance(documents, list):
                listed = list(enumerate(documents))
                break
    hits = (_hit(document, place + 1) for place, document in listed if isinstance(document, dict))
    return tuple(hit for hit in hits if hit is not None)


def _hit(document: Attributes, rank: int) -> Hit | None:
    """The document at its rank; without any id it is named by its text, without either it is none."""
    text = next((document[n] for n in _DOCUMENT_TEXTS if isinstance(document.get(n), str)), None)
    hashed = None if text is None else text_hash("", text)
    document_id = _id(document) or _id(structured(document.get("metadata"))) or (hashed and f"text:{hashed}")
    if not document_id:
        return None
    return Hit(document_id, rank, text_hash=hashed, score=finite(document.get("score")))


def _id(document: Any) -> str:
    if not isinstance(document, dict):
        return ""
    for name in _DOCUMENT_IDS:
        value = document.get(name)
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
            return str(value)
    return ""


def count_of(attributes: Attributes, *names: str) -> int | None:
    """The first of these attributes that is a number of things."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return value
    return None


def finite(value: Any) -> float | None:
    """A number, or a text that is one; None for anything else, and for what is not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
