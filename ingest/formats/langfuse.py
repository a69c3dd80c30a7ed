"""Langfuse: scores, one or many, and the batch envelope of older clients, which holds traces as well.

query_id = traceId, as of what comes by OTLP; a score of an observation has the target `span`.

NUMERIC              score
BOOLEAN              thumb under a name that says so (`judgements`), else a score of 1 or 0
CATEGORICAL          comment with `attributes.label`; its text is the comment, else the category
TEXT                 comment
CORRECTION           correction

`comment` is the text; `metadata`, `environment` and the ids of configuration are attributes. Id: the score's
own, else that of its entry, else derived from its content. A score sent again under its id with another value
is a conflict. A score that names only a session or a dataset run names no query, and is refused.

Of the batch: `score-create`; `trace-create` with an input is a query (an inferred one, unless the input is a
text); a generation with an output, or that failed, is an answer. The rest says nothing to us.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from ingest.formats.items import Item
from ingest.formats.judgements import judge_boolean, judge_result
from ingest.formats.messages import spoken_text
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
from schemas.errors import Rejectable
from schemas.interactions import (
    AnswerGiven,
    Attribute,
    FeedbackGiven,
    FeedbackKind,
    QueryAsked,
    Rater,
    Target,
)

SOURCE: Final = "urn:ratchet:langfuse"
_KINDS: Final = ("NUMERIC", "BOOLEAN", "CATEGORICAL", "TEXT", "CORRECTION")
_SOURCES: Final[dict[str, Rater]] = {"EVAL": "llm", "ANNOTATION": "human", "API": "human"}


class _Score(Struct, frozen=True, rename="camel"):
    name: Annotated[str, Meta(min_length=1)]
    value: float | str | bool
    id: str | None = None
    trace_id: str | None = None
    observation_id: str | None = None
    session_id: str | None = None
    dataset_run_id: str | None = None
    comment: str | None = None
    metadata: Any = None
    environment: str | None = None
    data_type: str | None = None
    config_id: str | None = None
    queue_id: str | None = None
    source: str | None = None
    timestamp: str | None = None


class _Entry(Struct, frozen=True):
    """One of the batch: `body` is read by `type`."""

    type: str
    body: Raw
    id: str | None = None
    timestamp: str | None = None


class _Trace(Struct, frozen=True, rename="camel"):
    id: str | None = None
    input: Any = None
    user_id: str | None = None
    session_id: str | None = None
    name: str | None = None
    environment: str | None = None
    release: str | None = None
    metadata: Any = None
    timestamp: str | None = None


class _Generation(Struct, frozen=True, rename="camel"):
    id: str | None = None
    trace_id: str | None = None
    output: Any = None
    model: str | None = None
    start_time: str | None = None
    end_time: str | None = None
    usage: dict[str, Any] | None = None
    usage_details: dict[str, Any] | None = None
    level: str | None = None
    status_message: str | None = None


class _Batch(Struct):
    batch: list[Raw]


class _Shape(Struct):
    body: Raw | UnsetType = UNSET
    batch: Raw | UnsetType = UNSET


_decode_score: Final = msgspec.json.Decoder(_Score).decode
_decode_entry: Final = msgspec.json.Decoder(_Entry).decode
_decode_trace: Final = msgspec.json.Decoder(_Trace).decode
_decode_generation: Final = msgspec.json.Decoder(_Generation).decode
_decode_batch: Final = msgspec.json.Decoder(_Batch).decode
_decode_shape: Final = msgspec.json.Decoder(_Shape).decode


def split_langfuse(body: bytes) -> Sequence[Piece]:
    """Scores and entries of a batch: one, an array, an object a line, or the batch envelope."""
    pieces = split_json(body)
    if len(pieces) == 1:
        try:
            if _decode_shape(pieces[0]).batch is UNSET:
                return pieces
        except DECODER_ERRORS:
            return pieces
        return decode_piece(pieces[0], _decode_batch, "a batch").batch
    return pieces


def _read(piece: Piece) -> Sequence[Item]:
    shape = decode_piece(piece, _decode_shape, "a score")
    if shape.body is UNSET:
        score = decode_piece(piece, _decode_score, "a score")
        return [_score_event(score, score.id or content_id(SOURCE, "score", piece), None)]
    entry = decode_piece(piece, _decode_entry, "an entry of the batch")
    try:
        return _read_entry(entry)
    except Rejectable as why:
        raise Rejectable(why.reason, why.message, field=f"body.{why.field}".removesuffix(".")) from why


def _read_entry(entry: _Entry) -> Sequence[Item]:
    time = instant(entry.timestamp, "timestamp")
    if entry.type == "score-create":
        score = decode_piece(entry.body, _decode_score, "a score")
        id_ = score.id or entry.id or content_id(SOURCE, "score", entry.body)
        return [_score_event(score, id_, time)]
    if entry.type == "trace-create":
        return _query_event(decode_piece(entry.body, _decode_trace, "a trace"), entry, time)
    if entry.type.startswith("generation-"):
        return _answer_event(decode_piece(entry.body, _decode_generation, "a generation"), entry, time)
    return []


def _score_event(score: _Score, id_: str, sent: dt.datetime | None) -> bytes:
    if not score.trace_id:
        of = "a session" if score.session_id else "a dataset run" if score.dataset_run_id else "nothing"
        raise missing(
            "traceId",
            f"expected `traceId`, got a score of {of}: feedback belongs to a query, and a trace is one; "
            "score the trace",
        )
    said = _judge(score)
    target = Target()
    if score.observation_id:
        target = Target(kind="span", span_id=score.observation_id)
    metadata = score.metadata if isinstance(score.metadata, dict) else {}
    rater = metadata.get("annotator_kind") or metadata.get("rater")
    return compose(
        FeedbackGiven(
            query_id=score.trace_id,
            kind=said.kind,
            value=said.value,
            text=said.text,
            target=target,
            rater=rater_of(rater) if isinstance(rater, str) else _SOURCES.get(score.source or "", "human"),
            name=score.name,
            attributes={**said.attributes, **_circumstances(score)},
        ),
        source=SOURCE,
        id=id_,
        time=instant(score.timestamp, "timestamp") or sent,
    )


class _Said(Struct, frozen=True):
    kind: FeedbackKind
    value: float | None
    text: str | None
    attributes: dict[str, Attribute] = {}


def _judge(score: _Score) -> _Said:
    """What a score says. Raises Rejectable."""
    value, comment = score.value, score.comment
    kind = score.data_type or _inferred_kind(value)
    if kind not in _KINDS:
        raise invalid("dataType", f"expected one of {', '.join(_KINDS)}, got {kind[:60]!r}")
    if kind in ("NUMERIC", "BOOLEAN"):
        if isinstance(value, str):
            raise invalid("value", f"expected a number with dataType {kind}, got a text")
        if kind == "NUMERIC":
            return _Said("score", float(value), comment)
        if value not in (0, 1):
            raise invalid("value", f"expected 1 or 0 with dataType BOOLEAN, got {value:g}")
        judged = judge_boolean(score.name, value == 1)
        return _Said(judged.kind, judged.value, comment)
    if not isinstance(value, str) or not value.strip():
        raise invalid("value", f"expected a text with dataType {kind}, got {str(value)[:60]!r}")
    if kind == "CATEGORICAL":
        thumb = judge_result(score.name, value, None)
        if thumb is not None:
            return _Said(thumb.kind, thumb.value, comment, {"label": value})
        return _Said("comment", None, comment or value, {"label": value})
    return _Said("correction" if kind == "CORRECTION" else "comment", None, value, _named(comment=comment))


def _inferred_kind(value: float | str | bool) -> str:
    if isinstance(value, str):
        return "CATEGORICAL"
    return "BOOLEAN" if isinstance(value, bool) else "NUMERIC"


def _named(**texts: str | None) -> dict[str, Attribute]:
    return {name: text for name, text in texts.items() if text}


def _circumstances(score: _Score) -> dict[str, Attribute]:
    named = _named(environment=score.environment, config_id=score.config_id, queue_id=score.queue_id)
    return {**named, **flatten("metadata", score.metadata)}


def _query_event(trace: _Trace, entry: _Entry, sent: dt.datetime | None) -> Sequence[Item]:
    text = spoken_text(trace.input, "user")
    if not text or not trace.id:
        return []
    named = _named(name=trace.name, environment=trace.environment, release=trace.release)
    return [
        compose(
            QueryAsked(
                query_id=trace.id,
                text=text,
                user=trace.user_id or None,
                session=trace.session_id or None,
                attributes={**named, **flatten("metadata", trace.metadata)},
                inferred=not isinstance(trace.input, str),
            ),
            source=SOURCE,
            id=entry.id or content_id(SOURCE, "trace", entry.body),
            time=instant(trace.timestamp, "timestamp") or sent,
        )
    ]


def _answer_event(generation: _Generation, entry: _Entry, sent: dt.datetime | None) -> Sequence[Item]:
    text = spoken_text(generation.output, "assistant")
    failed = generation.level == "ERROR"
    if not (generation.id and generation.trace_id) or not (text or failed):
        return []
    start, end = instant(generation.start_time, "startTime"), instant(generation.end_time, "endTime")
    usage = {**(generation.usage or {}), **(generation.usage_details or {})}
    return [
        compose(
            AnswerGiven(
                query_id=generation.trace_id,
                answer_id=generation.id,
                text=text or "",
                generator=generation.model or "",
                input_tokens=_tokens(usage, "input", "promptTokens"),
                output_tokens=_tokens(usage, "output", "completionTokens"),
                latency_ms=None
                if start is None or end is None or end < start
                else (end - start).total_seconds() * 1000,
                error=(generation.status_message or "failed") if failed else None,
            ),
            source=SOURCE,
            id=entry.id or content_id(SOURCE, "generation", entry.body),
            time=end or sent,
        )
    ]


def _tokens(usage: dict[str, Any], *names: str) -> int | None:
    found = (usage.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and not isinstance(n, bool) and n >= 0), None)


LANGFUSE: Final = Format(
    name="langfuse",
    about="Langfuse scores and its batch of events",
    source=SOURCE,
    split=split_langfuse,
    read=reading(_read),
    fields={
        "data.query_id": "traceId",
        "data.target.span_id": "observationId",
        "data.value": "value",
        "data.name": "name",
        "data.text": "comment",
        "data.attributes": "metadata",
        "time": "timestamp",
    },
)
