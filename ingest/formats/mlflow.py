"""MLflow 3: assessments of a trace, feedback or expectations.

query_id = the trace id without its `tr-`, which is the OpenTelemetry trace id in hex. With a span id the
target is that span. A value that is true or false is a thumb under a name that says so (`judgements`), else a
score of 1 or 0; a number is a score; a text is a comment with `attributes.label`; an expectation is a
correction. The rationale is the text. Id: derived from the content, the client's times included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw, Struct

from ingest.formats.items import Item
from ingest.formats.judgements import judge_boolean, judge_result
from ingest.formats.pieces import (
    Format,
    Piece,
    compose,
    content_id,
    decode_piece,
    flatten,
    instant,
    invalid,
    missing,
    rater_of,
    reading,
    split_json,
)
from ingest.refusals import DECODER_ERRORS
from schemas.codec import canonical_json
from schemas.interactions import Attribute, FeedbackGiven, FeedbackKind, Target

SOURCE: Final = "urn:ratchet:mlflow"
#: What the client fills in for a source that nobody named.
_NOBODY: Final = "default"


class _Source(Struct, frozen=True):
    source_type: str | None = None
    source_id: str | None = None


class _Value(Struct, frozen=True):
    value: Any = None
    error: Any = None


class _Serialized(Struct, frozen=True):
    value: str


class _Expectation(Struct, frozen=True):
    value: Any = None
    serialized_value: _Serialized | None = None


class _Assessment(Struct, frozen=True):
    assessment_name: Annotated[str, Meta(min_length=1)]
    trace_id: Annotated[str, Meta(min_length=1)]
    span_id: str | None = None
    source: _Source = _Source()
    create_time: str | None = None
    feedback: _Value | None = None
    expectation: _Expectation | None = None
    rationale: str | None = None
    metadata: dict[str, Any] | None = None


class _Envelope(Struct):
    assessment: Raw


_decode_assessment: Final = msgspec.json.Decoder(_Assessment).decode
_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


def split_mlflow(body: bytes) -> Sequence[Piece]:
    """Assessments: the one in the envelope `{"assessment": …}`, or one, an array, or one a line."""
    pieces = split_json(body)
    if len(pieces) == 1:
        try:
            return [_decode_envelope(pieces[0]).assessment]
        except DECODER_ERRORS:
            return pieces
    return pieces


def _read(piece: Piece) -> Sequence[Item]:
    one = decode_piece(piece, _decode_assessment, "an assessment")
    said = _expected(one.expectation) if one.feedback is None else _judge(one, one.feedback)
    source_id = one.source.source_id
    named: dict[str, Attribute] = {}
    if source_id and source_id != _NOBODY:
        named["source_id"] = source_id
    payload = FeedbackGiven(
        query_id=one.trace_id.removeprefix("tr-"),
        kind=said.kind,
        value=said.value,
        text=said.text or one.rationale,
        target=Target(kind="span", span_id=one.span_id) if one.span_id else Target(),
        rater=rater_of(one.source.source_type),
        name=one.assessment_name,
        attributes={**said.attributes, **named, **flatten("metadata", one.metadata)},
    )
    id_ = content_id(SOURCE, "assessment", piece)
    return [compose(payload, source=SOURCE, id=id_, time=instant(one.create_time, "create_time"))]


class _Said(Struct, frozen=True):
    kind: FeedbackKind
    value: float | None = None
    text: str | None = None
    attributes: dict[str, Attribute] = {}


def _judge(one: _Assessment, feedback: _Value) -> _Said:
    value = feedback.value
    if isinstance(value, bool):
        judged = judge_boolean(one.assessment_name, value)
        return _Said(judged.kind, judged.value)
    if isinstance(value, int | float):
        return _Said("score", float(value))
    if isinstance(value, str) and value.strip():
        thumb = judge_result(one.assessment_name, value, None)
        if thumb is not None:
            return _Said(thumb.kind, thumb.value, None, {"label": value})
        return _Said("comment", None, one.rationale or value, {"label": value})
    if value is not None:
        return _Said("comment", None, canonical_json(value).decode())
    if feedback.error is not None:
        raise invalid("feedback.value", "the rater failed and gave no value: there is nothing to learn from")
    raise missing("feedback.value", "expected a value in `feedback`, got none")


def _expected(expectation: _Expectation | None) -> _Said:
    if expectation is None:
        raise missing("feedback", "expected `feedback` or `expectation`, got neither")
    value = expectation.value
    if value is None and expectation.serialized_value is not None:
        value = expectation.serialized_value.value
    text = value if isinstance(value, str) else None if value is None else canonical_json(value).decode()
    if not (text or "").strip():
        raise missing("expectation.value", "expected a value in `expectation`, got none")
    return _Said("correction", None, text)


MLFLOW: Final = Format(
    name="mlflow",
    about="MLflow assessments",
    source=SOURCE,
    split=split_mlflow,
    read=reading(_read),
    fields={
        "data.query_id": "trace_id",
        "data.target": "span_id",
        "data.name": "assessment_name",
        "data.value": "feedback.value",
        "data.text": "feedback.value",
        "data.attributes": "metadata",
        "time": "create_time",
    },
)
