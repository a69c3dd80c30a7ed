"""The generated part of `docs/events.md`: every event type, field by field, from the registry.

python -P -m api.http.reference docs/events.md     writes the part between the two marks anew
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from api.http.examples import example_bytes
from schemas.errors import Reason
from schemas.registry import EVENT_TYPES, EventType
from schemas.topics import TOPICS

BEGIN: Final = "<!-- generated from schemas/: python -P -m api.http.reference docs/events.md -->"
END: Final = "<!-- end of the generated part -->"

Json = dict[str, Any]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _type_of(schema: Json, definitions: Json) -> str:
    """A JSON Schema as one phrase: `text`, `number or null`, `list of Hit`."""
    if "$ref" in schema:
        return f"[{(name := schema['$ref'].rpartition('/')[2])}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(_type_of(one, definitions) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type_of(schema.get('items', {}), definitions)}"
    if kind == "object":
        inner = schema.get("additionalProperties")
        return f"object of {_type_of(inner, definitions)}" if isinstance(inner, dict) else "object"
    kind = str(kind)
    named = {"string": "text", "boolean": "yes/no", "null": "nothing"}.get(kind, kind)
    if schema.get("format") == "date-time":
        named = "time (RFC 3339)"
    if schema.get("contentEncoding") == "base64":
        named = "bytes (base64)"
    return named + _bounds(schema)


def _bounds(schema: Json) -> str:
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    bounds = [f"{sign} {schema[name]}" for name, sign in words.items() if name in schema]
    if schema.get("minLength"):
        bounds.append("not empty")
    return f" ({', '.join(bounds)})" if bounds else ""


def _meaning(schema: Json) -> str:
    inner: Json = next((one for one in schema.get("anyOf", ()) if "description" in one), {})
    text: str = schema.get("description") or inner.get("description") or ""
    personal = schema.get("x-personal") or any(one.get("x-personal") for one in schema.get("anyOf", ()))
    return f"{text} *Personal.*".strip() if personal else text


def _fields(definition: Json, definitions: Json) -> Iterator[str]:
    required = set(definition.get("required", ()))
    yield "| field | | type | meaning |"
    yield "|---|---|---|---|"
    for name, schema in definition.get("properties", {}).items():
        need = "required" if name in required else ""
        yield f"| `{name}` | {need} | {_cell(_type_of(schema, definitions))} | {_cell(_meaning(schema))} |"


def _describe(event_type: EventType) -> Iterator[str]:
    schema = msgspec.json.schema(event_type.payload)
    definition = schema["$defs"][event_type.payload.__name__]
    text = inspect.cleandoc(event_type.payload.__doc__ or "").replace(f"`{event_type.name}`.", "").strip()
    yield f"### {event_type.short}"
    yield ""
    yield f"`{event_type.name}` · {' '.join(text.split())}"
    yield ""
    yield from _fields(definition, schema["$defs"])
    yield ""
    yield "```json"
    yield example_bytes(event_type).decode().rstrip()
    yield "```"
    yield ""


def _parts() -> Iterator[str]:
    """The shapes that several events hold."""
    definitions: dict[str, Json] = {}
    for event_type in EVENT_TYPES:
        for name, definition in msgspec.json.schema(event_type.payload)["$defs"].items():
            if name != event_type.payload.__name__:
                definitions[name] = definition
    for name, definition in sorted(definitions.items()):
        yield f"### {name}"
        yield ""
        yield definition.get("description", "")
        yield ""
        yield from _fields(definition, definitions)
        yield ""


def _reasons() -> Iterator[str]:
    yield "| reason | what it says | what to do |"
    yield "|---|---|---|"
    for reason in Reason:
        yield f"| `{reason.value}` | {_cell(reason.meaning)} | {_cell(reason.remedy)} |"


def event_reference() -> str:
    """The generated part, from mark to mark."""
    parts = [BEGIN, "", "## Reasons of a rejection", "", *_reasons(), ""]
    for topic in TOPICS:
        parts += [f"## Topic `{topic.name}`", "", f"{topic.partitions} partitions, key `{topic.key}`.", ""]
        for event_type in EVENT_TYPES:
            if event_type.topic == topic.name:
                parts += _describe(event_type)
    parts += ["## Parts of events", "", *_parts(), END]
    return "\n".join(parts)


def renewed(document: str) -> str:
    """The document with its generated part made anew. Raises ValueError if a mark is missing."""
    before, found, rest = document.partition(BEGIN)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise ValueError(f"expected the marks {BEGIN!r} and {END!r}, in this order")
    return before + event_reference() + after


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text(encoding="utf-8")), encoding="utf-8")
