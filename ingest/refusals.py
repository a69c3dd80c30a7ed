"""From a decoder's error to a refusal: reason code, dotted field, and what to do about it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal, get_args, get_origin

import msgspec
from msgspec import Struct

from schemas.errors import Reason, Rejectable

_PATH: Final = re.compile(r" - at (?:`key` in )?`\$([^`]*)`\Z")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`\Z", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`\Z", re.DOTALL)
_CHOICE: Final = re.compile(r"Invalid enum value (.*)\Z", re.DOTALL)
_STEP: Final = re.compile(r"[^.\[\]]+")
#: What stands in a path for a field whose name is empty.
_NO_NAME: Final = '""'
#: A message quotes what came; it never grows past this many characters.
MAX_MESSAGE_CHARACTERS: Final = 500

DecoderError = msgspec.MsgspecError | UnicodeDecodeError | RecursionError
#: What decoding may raise, as a tuple for `except`.
DECODER_ERRORS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def shorten(text: str) -> str:
    """At most MAX_MESSAGE_CHARACTERS of a text."""
    return text if len(text) <= MAX_MESSAGE_CHARACTERS else text[: MAX_MESSAGE_CHARACTERS - 1] + "…"


def suggest(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)`, or nothing if no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def refuse_data(error: DecoderError, event_type: str, twin: type[Struct]) -> Rejectable:
    """The refusal for `data` that its strict type did not take."""
    if not isinstance(error, msgspec.ValidationError):
        return refuse_json(error, field="data")
    text, steps = _split(error)
    field = ".".join(("data", *steps))
    look = f"see GET /v1/schemas/{event_type}"
    if unknown := _UNKNOWN.match(text):
        name = unknown[1][:100]
        names = _fields_at(twin, steps)
        return Rejectable(
            Reason.UNKNOWN_FIELD,
            f"{field} has no field {name!r}{suggest(name, names)}; it has {', '.join(names)}; {look}",
            field=f"{field}.{name or _NO_NAME}",
        )
    if missing := _MISSING.match(text):
        return Rejectable(
            Reason.MISSING_FIELD,
            f"{field} needs {missing[1]!r}, which is not there; {look}",
            field=f"{field}.{missing[1]}",
        )
    choice = _CHOICE.match(text)
    if choice and (choices := _choices_at(twin, steps)):
        came = choice[1][:100]
        near = suggest(came.strip("'"), choices)
        text = f"expected one of {', '.join(choices)}, got {came}{near}"
    return Rejectable(Reason.INVALID_VALUE, shorten(f"{field}: {_lower(text)}; {look}"), field=field)


def refuse_envelope(error: DecoderError) -> Rejectable:
    """The refusal for bytes that are not the envelope of a CloudEvent."""
    if not isinstance(error, msgspec.ValidationError):
        return refuse_json(error, field="")
    text, steps = _split(error)
    if missing := _MISSING.match(text):
        field = missing[1]
        return Rejectable(
            Reason.INVALID_ENVELOPE,
            f"a CloudEvent needs the attribute {field!r}, which is not there",
            field=field,
        )
    field = ".".join(steps)
    return Rejectable(
        Reason.INVALID_ENVELOPE, shorten(f"CloudEvent {field or 'as a whole'}: {_lower(text)}"), field=field
    )


def refuse_piece(error: DecoderError, what: str) -> Rejectable:
    """The refusal for a piece of another format, in its own words; `what` names it: `a score`."""
    if not isinstance(error, msgspec.ValidationError):
        return refuse_json(error, field="")
    text, steps = _split(error)
    if missing := _MISSING.match(text):
        field = ".".join((*steps, missing[1]))
        return Rejectable(Reason.MISSING_FIELD, f"{what} needs {field!r}, which is not there", field=field)
    field = ".".join(steps)
    return Rejectable(Reason.INVALID_VALUE, shorten(f"{field or what}: {_lower(text)}"), field=field)


def refuse_json(error: DecoderError, *, field: str) -> Rejectable:
    """The refusal for bytes that are not JSON."""
    what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
    return Rejectable(Reason.INVALID_JSON, shorten(f"expected JSON in UTF-8, but: {what}"), field=field)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _split(error: msgspec.ValidationError) -> tuple[str, list[str]]:
    """The decoder's sentence and its path: `$.hits[0].rank` → hits, 0, rank; the key of a mapping is `*`."""
    text = str(error)
    found = _PATH.search(text)
    if found is None:
        return text, []
    return text[: found.start()], _STEP.findall(found[1].replace("...", "*"))


def _fields_at(twin: type[Struct], steps: list[str]) -> list[str]:
    """Field names of the Struct at this path below `twin`."""
    return [f.encode_name for f in msgspec.structs.fields(_struct_at(twin, steps))]


def _choices_at(twin: type[Struct], steps: list[str]) -> list[str]:
    """What the field at this path below `twin` may be; nothing if it is no choice."""
    fields = {f.encode_name: f.type for f in msgspec.structs.fields(_struct_at(twin, steps[:-1]))}
    return list(_choices_in(fields.get(steps[-1]))) if steps else []


def _choices_in(annotation: Any) -> Iterator[str]:
    for part in get_args(annotation):
        if get_origin(annotation) is Literal:
            yield str(part)
        else:
            yield from _choices_in(part)


def _struct_at(twin: type[Struct], steps: list[str]) -> type[Struct]:
    here = twin
    for step in steps:
        # A step that is no field is an index into the list that the last field is.
        types = {f.encode_name: f.type for f in msgspec.structs.fields(here)}
        here = _struct_in(types.get(step)) or here
    return here


def _struct_in(annotation: Any) -> type[Struct] | None:
    """The one Struct type in an annotation, through unions, tuples and Annotated."""
    if isinstance(annotation, type) and issubclass(annotation, Struct):
        return annotation
    return next((s for s in map(_struct_in, get_args(annotation)) if s is not None), None)
