"""Arize Phoenix: annotations and notes of spans, traces and documents.

trace_id                       query_id, as of what comes by OTLP
span_id                        `feedback.referred` to `span:<id>`: it waits for what names that span's query
span_id and document_position  the same, on the document at rank position + 1 of the retrieval `span_id`
session_id                     names no query: refused

A document's result is a relevance label where its words say so (`judgements`); a thumb is one by its name;
else `score` is a score. A label without a score is a comment with `attributes.label`; `explanation` is the
text. Phoenix knows an annotation by its subject, name and identifier, and a later one takes its place. Here
each stands: the id is derived from the content, and what came later comes later.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct

from ingest.formats.items import Item
from ingest.formats.judgements import Judgement, judge_relevance, judge_result
from ingest.formats.pieces import (
    Format,
    Piece,
    compose,
    content_id,
    decode_piece,
    flatten,
    invalid,
    missing,
    rater_of,
    reading,
    split_json,
)
from ingest.refusals import DECODER_ERRORS
from schemas.interactions import Attribute, FeedbackGiven, Target
from schemas.waiting import FeedbackReferred, span_reference

SOURCE: Final = "urn:ratchet:phoenix"
Subject = Literal["span", "trace", "session", "document"]


class _Result(Struct, frozen=True):
    label: str | None = None
    score: float | None = None
    explanation: str | None = None


class _Annotation(Struct, frozen=True):
    name: str = ""
    annotator_kind: str | None = None
    result: _Result | None = None
    metadata: Any = None
    identifier: str | None = None
    span_id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    document_position: int | None = None
    note: str | None = None


class _Data(Struct):
    data: Raw


_decode_annotation: Final = msgspec.json.Decoder(_Annotation).decode
_decode_data: Final = msgspec.json.Decoder(_Data).decode
_decode_many: Final = msgspec.json.Decoder(list[Raw]).decode


def split_phoenix(body: bytes) -> Sequence[Piece]:
    """Annotations: what `data` holds, one or an array; or they themselves: one, an array, or one a line."""
    pieces = split_json(body)
    if len(pieces) != 1:
        return pieces
    try:
        data = _decode_data(pieces[0]).data
    except DECODER_ERRORS:
        return pieces
    return _decode_many(data) if bytes(data).lstrip()[:1] == b"[" else [data]


def _read(piece: Piece, subject: Subject | None) -> Sequence[Item]:
    one = decode_piece(piece, _decode_annotation, "an annotation")
    target, reference = _subject(one, subject)
    result = one.result or _Result()
    judge = judge_relevance if target.kind == "document" else judge_result
    judgement = judge(one.name, result.label, result.score)
    text = one.note or result.explanation or (result.label if judgement is None else None)
    if judgement is None and not (text or "").strip():
        raise missing("result", "expected a label, a score or an explanation in `result`, got none of them")
    judgement = judgement or Judgement("comment", 0.0)
    said: dict[str, Any] = {
        "kind": judgement.kind,
        "value": None if judgement.kind == "comment" else judgement.value,
        "text": text,
        "target": target,
        "rater": rater_of(one.annotator_kind),
        "name": one.name or ("note" if one.note else ""),
        "attributes": {**_named(result.label, one.identifier), **flatten("metadata", one.metadata)},
    }
    payload = (
        FeedbackGiven(query_id=one.trace_id or "", **said)
        if reference is None
        else FeedbackReferred(reference=reference, **said)
    )
    return [compose(payload, source=SOURCE, id=content_id(SOURCE, "annotation", piece), time=None)]


def _subject(one: _Annotation, subject: Subject | None) -> tuple[Target, str | None]:
    """What it is about, and what it refers to (None: the trace is the query). Raises Rejectable."""
    if subject == "document" and one.document_position is None:
        raise missing("document_position", "expected the position of the document in its list, from 0")
    if one.span_id and subject not in ("trace", "session"):
        reference = span_reference(one.span_id)
        if one.document_position is None:
            return Target(kind="span", span_id=one.span_id), reference
        if one.document_position < 0:
            raise invalid("document_position", f"expected a position from 0 on, got {one.document_position}")
        rank = one.document_position + 1
        return Target(kind="document", retrieval_id=one.span_id, rank=rank), reference
    if one.trace_id and subject not in ("span", "session", "document"):
        return Target(), None
    if one.session_id or subject == "session":
        raise missing(
            "trace_id",
            "feedback belongs to a query, and a session is none; annotate a trace or a span of it",
        )
    wanted = "trace_id" if subject == "trace" else "span_id"
    raise missing(wanted, f"expected `{wanted}`, which says what is annotated, got nothing")


def _named(label: str | None, identifier: str | None) -> dict[str, Attribute]:
    return {n: v for n, v in (("label", label), ("identifier", identifier)) if v}


def phoenix_format(subject: Subject | None = None) -> Format:
    """The format of one of its routes; without a subject, an annotation's ids say what it is about."""
    return Format(
        name="phoenix",
        about="Phoenix annotations",
        source=SOURCE,
        split=split_phoenix,
        read=reading(partial(_read, subject=subject)),
        fields={
            "data.query_id": "trace_id",
            "data.reference": "span_id",
            "data.target.rank": "document_position",
            "data.target": "span_id",
            "data.value": "result.score",
            "data.text": "result.explanation",
            "data.name": "name",
            "data.attributes": "metadata",
        },
    )


PHOENIX: Final = phoenix_format()
