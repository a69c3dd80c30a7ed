"""What the formats share: a body is cut into pieces, a piece becomes CloudEvents or the reason why not."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import fields, replace

from ingest.formats.items import Item, Undecoded
from ingest.refusals import DECODER_ERRORS, refuse_json, refuse_piece
from ingest.strict import MAX_ATTRIBUTES, MAX_NAME_CHARACTERS
from schemas.codec import canonical_json
from schemas.errors import Reason, Rejectable
from schemas.ids import derive_id
from schemas.interactions import Attribute, Feedback, Rater, Target
from schemas.registry import BY_PAYLOAD

_T = TypeVar("_T")
Piece = bytes | Raw

_decode_raws: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_raw: Final = msgspec.json.Decoder(Raw).decode
_decode_loosely: Final = msgspec.json.Decoder().decode
_INT64: Final = range(-(2**63), 2**63)
#: The very object that is the default: an equal one would be written out.
_WHOLE_QUERY: Final[Target] = next(f.default for f in fields(Feedback) if f.name == "target")
#: Who rated, as others write it.
_RATERS: Final[dict[str, Rater]] = {
    "human": "human",
    "llm": "llm",
    "llm_judge": "llm",
    "ai_judge": "llm",
    "code": "code",
}


class Format(Struct, frozen=True, kw_only=True):
    """How others write things, and what we make of it. Pure: the same bytes give the same events.

    Guarantee: an `Undecoded.original` of `read` is the piece itself. So what was kept of a refusal can be
    mended and read again.
    """

    name: str
    #: One line for people.
    about: str
    #: CloudEvents source of the events; ids are unique within it.
    source: str
    media_types: tuple[str, ...] = ("application/json",)
    #: Cuts a body into pieces. Raises Rejectable if it is none of this format.
    split: Callable[[bytes], Sequence[Piece]]
    #: The events of a piece; none if it says nothing to us. Never raises for any bytes.
    read: Callable[[Piece], list[Item]]
    #: Field of our events → field of the format, to say in the sender's words what was refused.
    fields: Mapping[str, str] = {}

    def decode(self, body: bytes) -> list[Item]:
        """The events of a body. Raises Rejectable if it is none of this format."""
        return [item for piece in self.split(body) for item in self.read(piece)]

    def field_of(self, field: str) -> str:
        """The field of the format that a field of our event was made of; ours if it is not known."""
        for ours, theirs in self.fields.items():
            if field == ours or field.startswith(f"{ours}."):
                return theirs
        return field


def split_json(body: bytes) -> Sequence[Piece]:
    """An object, an array of objects, or an object a line. Raises Rejectable for what is none of them.

    Of several lines each is a piece, the bad ones too.
    """
    start = body.lstrip()[:1]
    try:
        return _decode_raws(body) if start == b"[" else [_decode_raw(body)]
    except DECODER_ERRORS as error:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if start == b"{" and len(lines) > 1:
            return lines
        raise refuse_json(error, field="") from error


def reading(make: Callable[[Piece], Sequence[Item]]) -> Callable[[Piece], list[Item]]:
    """A `Format.read` of a function that raises Rejectable: what it refuses is kept as it came."""

    def read(piece: Piece) -> list[Item]:
        try:
            return list(make(piece))
        except Rejectable as why:
            return [Undecoded(bytes(piece), why)]
        except DECODER_ERRORS as error:  # in a part that was skipped until now
            return [Undecoded(bytes(piece), refuse_json(error, field=""))]

    return read


def decode_piece(piece: Piece, decode: Callable[[Piece], _T], what: str) -> _T:
    """The value of a piece; `what` names it to people. Raises Rejectable, in the sender's words."""
    try:
        return decode(piece)
    except DECODER_ERRORS as error:
        raise refuse_piece(error, what) from error


def compose(payload: Struct, *, source: str, id: str, time: dt.datetime | None) -> bytes:
    """A CloudEvent in JSON, as admission takes it; values are not checked here.

    A target that is the whole query is left out, as applications leave it out: the content is the same then.
    """
    if isinstance(payload, Feedback) and payload.target == _WHOLE_QUERY:
        payload = replace(payload, target=_WHOLE_QUERY)
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": id,
        "source": source,
        "type": BY_PAYLOAD[type(payload)].name,
    }
    if time is not None:
        event["time"] = time
    event["data"] = payload
    return msgspec.json.encode(event)


def content_id(source: str, role: str, piece: Piece, *, without: Sequence[str] = ()) -> str:
    """An id derived from a piece: equal JSON gives equal ids, whatever its spaces and its order.

    `role` tells several events of one piece apart; members named in `without`, and null ones, do not count.
    """
    content = _decode_loosely(piece)
    if isinstance(content, dict):
        content = {name: v for name, v in content.items() if v is not None and name not in without}
    return derive_id(source, role, canonical_json(content).decode())


def instant(text: str | None, field: str) -> dt.datetime | None:
    """A time in ISO 8601; without an offset it is UTC. Raises Rejectable."""
    if text is None or not text:
        return None
    try:
        time = dt.datetime.fromisoformat(text)
        return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise Rejectable(
            Reason.INVALID_VALUE, f"{field}: expected a time in ISO 8601, got {text[:60]!r}", field=field
        ) from error


def missing(field: str, message: str) -> Rejectable:
    """The refusal for something that is not there."""
    return Rejectable(Reason.MISSING_FIELD, message, field=field)


def invalid(field: str, message: str) -> Rejectable:
    """The refusal for a value that says nothing."""
    return Rejectable(Reason.INVALID_VALUE, message, field=field)


def rater_of(kind: str | None) -> Rater:
    """HUMAN, LLM, LLM_JUDGE, CODE, in any case, as we say it; a person if it is not known."""
    return _RATERS.get((kind or "").lower(), "human")


def flatten(prefix: str, value: object) -> dict[str, Attribute]:
    """Any JSON as attributes: `{"a": 1, "b": [2]}` under `tag` → tag.a = 1, tag.b = "[2]"; null is left out.

    What is no object, or has names or members that attributes cannot have, becomes one text.
    """
    if value is None or value == {}:
        return {}
    if not isinstance(value, dict) or len(value) > MAX_ATTRIBUTES // 2:
        return {prefix: _attribute(value)}
    named = {f"{prefix}.{name}": member for name, member in value.items() if member is not None}
    if any(len(name) > MAX_NAME_CHARACTERS for name in named):
        return {prefix: _attribute(value)}
    return {name: _attribute(member) for name, member in named.items()}


def _attribute(value: Any) -> Attribute:
    if isinstance(value, bool | float | str) or (isinstance(value, int) and value in _INT64):
        return value
    return canonical_json(value).decode()
