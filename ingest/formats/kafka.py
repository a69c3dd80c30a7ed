"""CloudEvents as they come in records of Kafka: structured, or binary (attributes are headers).

The Kafka binding of CloudEvents 1.0, and what senders before it did: a structured event under
`application/json`, attributes in `ce-` headers. Values of headers are UTF-8 as they are; nothing is escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.formats.cloudevents import ONE, compose_binary
from ingest.formats.items import Item, Undecoded
from schemas.errors import Reason, Rejectable

#: How the header of an attribute begins.
PREFIXES: Final = ("ce_", "ce-")
_STRUCTURED: Final = "application/cloudevents"
_CONTENT_TYPE: Final = "content-type"

Headers = Sequence[tuple[str, bytes | None]]


def read_message(headers: Headers, value: bytes | None) -> Item | None:
    """The event of a record; None for one that is empty and names no attribute (a tombstone).

    A content type that begins with `application/cloudevents` says structured, whatever else the headers
    hold; without it attributes say binary. All else is taken for a structured event.
    """
    content_type = _content_type(headers)
    named = any(name.lower().startswith(PREFIXES) for name, _ in headers)
    essence = content_type.partition(";")[0].strip().lower()
    if essence.startswith(_STRUCTURED):
        if essence != ONE:
            return _refused(
                {},
                value or b"",
                _CONTENT_TYPE,
                f"expected {ONE}, one event a record, got {essence[:100]!r}",
            )
        return value or b""
    if named:
        return _compose(headers, content_type, value or b"")
    return value or None


def is_attribute(name: str) -> bool:
    """Whether a header is part of the event or of how it is written."""
    return name.lower().startswith(PREFIXES) or name.lower() == _CONTENT_TYPE


def _content_type(headers: Headers) -> str:
    for name, value in headers:
        if name.lower() == _CONTENT_TYPE and value is not None:
            return value.decode("utf-8", "replace")
    return ""


def _compose(headers: Headers, content_type: str, data: bytes) -> Item:
    attributes: dict[str, str] = {}
    refusal: tuple[str, str] | None = None
    for name, value in headers:
        if not name.lower().startswith(PREFIXES) or value is None:
            continue
        attribute = name[3:]
        if attribute in attributes and refusal is None:
            refusal = attribute, f"expected one header {name[:100]}, got several"
        try:
            attributes[attribute] = value.decode()
        except UnicodeDecodeError:
            attributes[attribute] = value.decode("utf-8", "replace")
            refusal = attribute, f"expected UTF-8 in the header {name[:100]}, got {value[:60]!r}"
    if refusal is not None:
        return _refused(attributes, data, *refusal)
    return compose_binary(attributes, content_type, data)


def _refused(attributes: dict[str, str], data: bytes, field: str, message: str) -> Undecoded:
    """What is kept is a structured event, so that it can be mended; of one that was structured, itself."""
    why = Rejectable(Reason.INVALID_ENVELOPE, f"{field[:100]}: {message}", field=field[:100])
    if not attributes:
        return Undecoded(data, why)
    kept = {**attributes, "data_base64": base64.b64encode(data).decode()}
    return Undecoded(msgspec.json.encode(kept), why)
