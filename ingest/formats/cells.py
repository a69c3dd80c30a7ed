"""Cells of a table → values of a field: text where the field has text, numbers where it has numbers. Pure.

What a text does not say stands as it is: admission then says what it expected.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import types
import zoneinfo
from collections.abc import Sequence
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import msgspec
from msgspec import Struct

from ingest.refusals import suggest
from schemas.codec import canonical_json

#: What a field takes. `any`: text, number or boolean (an attribute); `documents`: a list of what has a
#: document id and a rank; `list`: another one.
Leaf = Literal["text", "any", "number", "integer", "boolean", "documents", "list", "object"]

_TRUE: Final = frozenset({"true", "yes", "y", "1", "t"})
_FALSE: Final = frozenset({"false", "no", "n", "0", "f"})
_PER_SECOND: Final = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class NotFound(LookupError):
    """No field at a path; `hint` says which may be meant."""

    def __init__(self, hint: str) -> None:
        super().__init__(hint)
        self.hint = hint


def leaf_at(payload: type[Struct], path: str) -> tuple[tuple[str, ...], Leaf]:
    """Steps and kind of a dotted path. What follows a mapping's name is one key. Raises NotFound."""
    here: Any = payload
    steps: list[str] = []
    rest = path
    while rest:
        inner = _plain(here)
        if get_origin(inner) is dict:
            return (*steps, rest), _leaf(get_args(inner)[1])
        if not (isinstance(inner, type) and issubclass(inner, Struct)):
            raise NotFound(f": {'.'.join(steps)} has no inner fields")
        step, _, rest = rest.partition(".")
        known = {field.encode_name: field.type for field in msgspec.structs.fields(inner)}
        if step not in known:
            raise NotFound(f"{suggest(step, known)}; it has {', '.join(known)}")
        steps.append(step)
        here = known[step]
    return tuple(steps), _leaf(here)


def _plain(annotation: Any) -> Any:
    """Without bounds and null; a union of several stays one."""
    if get_origin(annotation) is Annotated:
        return _plain(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        members = [_plain(one) for one in get_args(annotation) if one is not type(None)]
        return members[0] if len(members) == 1 else annotation
    return annotation


def _leaf(annotation: Any) -> Leaf:
    plain = _plain(annotation)
    if plain is bool:
        return "boolean"
    if plain is int:
        return "integer"
    if plain is float:
        return "number"
    if get_origin(plain) is tuple:
        entry = _plain(get_args(plain)[0])
        named = (
            {field.encode_name for field in msgspec.structs.fields(entry)}
            if isinstance(entry, type)
            else set()
        )
        return "documents" if "document_id" in named else "list"
    if get_origin(plain) is dict or (isinstance(plain, type) and issubclass(plain, Struct)):
        return "object"
    members = get_args(plain) if get_origin(plain) in (Union, types.UnionType) else ()
    return "any" if str in members and len(members) > 1 else "text"


def is_empty(cell: object) -> bool:
    """Nothing, or a text of nothing but spaces."""
    return cell is None or (isinstance(cell, str) and not cell.strip())


def text_of(cell: object) -> str:
    """A cell as text: a text as it is, all else as JSON."""
    return cell if isinstance(cell, str) else canonical_json(cell).decode()


def convert_cell(cell: Any, leaf: Leaf, *, split: str, read_as: str) -> Any:
    """The value of a cell that is not empty."""
    if read_as == "json" or (leaf == "object" and not read_as):
        return _json(cell)
    if leaf in ("documents", "list"):
        return _entries(cell, leaf, split)
    wanted = read_as or leaf
    if wanted == "text" or isinstance(cell, dict | list):
        # a name or an id that a table has as a number is a text here
        return text_of(cell)
    if not isinstance(cell, str) or wanted == "any":
        return cell
    if wanted == "boolean":
        word = cell.strip().lower()
        return True if word in _TRUE else False if word in _FALSE else cell
    return _number(cell)


def _number(text: str) -> int | float | str:
    if "_" in text:  # Python would read it
        return text
    for read in (int, float):
        try:
            number = read(text)
        except ValueError:
            continue
        return number if math.isfinite(number) and abs(number) < 1e300 else text
    return text


def _json(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    try:
        return msgspec.json.decode(cell)
    except (msgspec.MsgspecError, RecursionError):
        return cell


def _entries(cell: Any, leaf: Leaf, split: str) -> Any:
    if isinstance(cell, str):
        if not split:
            cell = _json(cell) if cell.lstrip().startswith("[") else [cell.strip()]
        else:
            cell = [part.strip() for part in cell.split(split) if part.strip()]
    if leaf != "documents" or not isinstance(cell, Sequence) or isinstance(cell, str):
        return cell
    return [
        entry if isinstance(entry, dict) else {"document_id": text_of(entry), "rank": rank}
        for rank, entry in enumerate(cell, 1)
    ]


@functools.cache
def zone_of(name: str) -> dt.tzinfo | None:
    """The time zone of this name; None if there is none."""
    if name == "UTC":
        return dt.UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def read_time(cell: Any, format: str, zone: str) -> str:
    """A moment in RFC 3339, UTC. `format` and `zone` as of a mapping's time. Raises ValueError."""
    try:
        if format in _PER_SECOND:
            microseconds = round(_exact(cell) * 10**6 / _PER_SECOND[format])
            time = _EPOCH + dt.timedelta(microseconds=microseconds)
        else:
            text = text_of(cell).strip()
            if format == "iso":
                time = dt.datetime.fromisoformat(text)
            else:
                time = dt.datetime.strptime(text, format)  # noqa: DTZ007 - its zone comes next
            if time.tzinfo is None:
                time = time.replace(tzinfo=zone_of(zone))
            time = time.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        expected = {"iso": "a time in ISO 8601"}.get(format, f"a time as {format!r}")
        raise ValueError(f"expected {expected}, got {text_of(cell)[:60]!r}") from error
    return time.isoformat()


def _exact(cell: Any) -> int | float:
    """Integers stay integers: nanoseconds are more than a float can say."""
    number = _number(cell.strip()) if isinstance(cell, str) else cell
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{number!r} is no number")
    return number
