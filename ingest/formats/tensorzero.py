"""TensorZero `POST /feedback`: a metric, a comment or a demonstration of an inference or an episode.

inference_id   an answer: `feedback.referred` to `answer:<id>`, which waits for the query of that answer
episode_id     query_id

A metric that is true or false is a thumb under a name that says so (`judgements`), else a score of 1 or 0; a
number is a score; `comment` is a comment, `demonstration` a correction. Tags are attributes. A call has no id
and no time: the id is derived from its content, so that the same feedback, sent twice, is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ingest.formats.items import Item
from ingest.formats.judgements import judge_boolean
from ingest.formats.messages import spoken_text
from ingest.formats.pieces import (
    Format,
    Piece,
    compose,
    content_id,
    decode_piece,
    flatten,
    invalid,
    missing,
    reading,
    split_json,
)
from ingest.refusals import DECODER_ERRORS
from schemas.codec import canonical_json
from schemas.interactions import FeedbackGiven, FeedbackKind, Rater, Target
from schemas.waiting import FeedbackReferred, answer_reference

SOURCE: Final = "urn:ratchet:tensorzero"
#: Members that say how a call is to be handled, and not what is said.
_HANDLING: Final = ("dryrun", "internal")


class _Call(Struct, frozen=True):
    metric_name: Annotated[str, Meta(min_length=1)]
    value: Any
    inference_id: str | None = None
    episode_id: str | None = None
    tags: dict[str, str] | None = None


class _Handling(Struct):
    dryrun: bool | None = None


_decode_call: Final = msgspec.json.Decoder(_Call).decode
_decode_handling: Final = msgspec.json.Decoder(_Handling).decode


def is_dry_run(body: bytes) -> bool:
    """Whether a call asks to be checked and not to be stored."""
    try:
        return bool(_decode_handling(body).dryrun)
    except DECODER_ERRORS:
        return False


def _read(piece: Piece) -> Sequence[Item]:
    call = decode_piece(piece, _decode_call, "feedback")
    if bool(call.inference_id) == bool(call.episode_id):
        raise missing(
            "inference_id", "expected either `inference_id` or `episode_id`, got both or neither; send one"
        )
    kind, value, text = _judge(call)
    said: dict[str, Any] = {
        "kind": kind,
        "value": value,
        "text": text,
        "name": "" if call.metric_name in ("comment", "demonstration") else call.metric_name,
        "attributes": flatten("tag", call.tags),
        "rater": _rater(call.tags or {}),
    }
    if call.inference_id:
        target = Target(kind="answer", answer_id=call.inference_id)
        payload: Struct = FeedbackReferred(
            reference=answer_reference(call.inference_id), target=target, **said
        )
    else:
        payload = FeedbackGiven(query_id=call.episode_id or "", **said)
    id_ = content_id(SOURCE, "feedback", piece, without=_HANDLING)
    return [compose(payload, source=SOURCE, id=id_, time=None)]


def _judge(call: _Call) -> tuple[FeedbackKind, float | None, str | None]:
    """Kind, value and text. Raises Rejectable."""
    value = call.value
    if call.metric_name == "comment":
        if not isinstance(value, str) or not value.strip():
            raise invalid("value", "expected a text with metric_name 'comment', got something else")
        return "comment", None, value
    if call.metric_name == "demonstration":
        text = spoken_text(value, "assistant") or (canonical_json(value).decode() if value else None)
        if text is None:
            raise invalid("value", "expected an output with metric_name 'demonstration', got nothing")
        return "correction", None, text
    if isinstance(value, bool):
        judged = judge_boolean(call.metric_name, value)
        return judged.kind, judged.value, None
    if isinstance(value, int | float):
        return "score", float(value), None
    raise invalid("value", f"expected true, false or a number for a metric, got {str(value)[:60]!r}")


def _rater(tags: dict[str, str]) -> Rater:
    """TensorZero marks what its evaluators say by a tag."""
    return "llm" if any(name.startswith("tensorzero::evaluat") for name in tags) else "human"


TENSORZERO: Final = Format(
    name="tensorzero",
    about="TensorZero feedback",
    source=SOURCE,
    split=split_json,
    read=reading(_read),
    fields={
        "data.query_id": "episode_id",
        "data.reference": "inference_id",
        "data.target": "inference_id",
        "data.name": "metric_name",
        "data.value": "value",
        "data.text": "value",
        "data.attributes": "tags",
    },
)
