"""Formats by name: what `rejected replay` and file imports look up, and what routes decode with.

A format is asked for in one of three ways: `decode(name, body)`, the events of a body; `FORMATS[name].split`
and `.read`, piece by piece, for a door that answers piece by piece; `decode_original(name, original)`, for
what was kept of a refusal: a piece of the format, or a CloudEvent that was already made of one.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from ingest.formats.items import Item
from ingest.formats.langfuse import LANGFUSE
from ingest.formats.mlflow import MLFLOW
from ingest.formats.otlp.traces import OTLP
from ingest.formats.phoenix import PHOENIX
from ingest.formats.pieces import Format, split_json
from ingest.formats.tensorzero import TENSORZERO
from ingest.formats.ubi import UBI
from ingest.refusals import DECODER_ERRORS, suggest
from schemas.errors import Reason, Rejectable

CLOUDEVENTS: Final = Format(
    name="cloudevents",
    about="CloudEvents 1.0 in JSON: one, an array, or one a line",
    source="",
    media_types=(
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/json",
        "application/x-ndjson",
        "application/jsonl",
    ),
    split=split_json,
    read=lambda piece: [piece],
)

#: Name → format. Sources differ, so that ids of two formats never meet.
FORMATS: Final[dict[str, Format]] = {
    one.name: one for one in (CLOUDEVENTS, LANGFUSE, MLFLOW, OTLP, PHOENIX, TENSORZERO, UBI)
}
#: Header under which a rejection keeps the name of the format of its original.
FORMAT_HEADER: Final = "format"


class _Envelope(Struct):
    specversion: Any = None


_decode_envelope: Final = msgspec.json.Decoder(_Envelope).decode


def format_of(name: str) -> Format:
    """The format of this name. Raises Rejectable."""
    found = FORMATS.get(name)
    if found is None:
        known = ", ".join(FORMATS)
        raise Rejectable(
            Reason.INVALID_VALUE,
            f"no format {name[:60]!r}{suggest(name, FORMATS)}; there are {known}",
            field="format",
        )
    return found


def decode(name: str, body: bytes) -> list[Item]:
    """The events of a body. Raises Rejectable if there is no such format, or the body is none of it."""
    return format_of(name).decode(body)


def decode_original(name: str, original: bytes) -> list[Item]:
    """The events of what `rejected` kept of a format: a piece of it, or a CloudEvent made of a piece.

    Raises Rejectable only if there is no such format: bytes that are no piece are an `Undecoded` again.
    """
    try:
        if _decode_envelope(original).specversion == "1.0":
            return [original]
    except DECODER_ERRORS:
        pass  # the format says what is wrong
    return format_of(name).read(original)
