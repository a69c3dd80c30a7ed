"""CloudEvents 1.0 as they come in: a batch, a line each, and binary mode (attributes beside the data).

Structured and batched events go on as they are. Binary mode becomes the structured form, which is also
what `rejected` keeps of a refused one.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import unquote_to_bytes

import msgspec
from msgspec import Raw

from ingest.formats.items import Item, Undecoded
from ingest.refusals import DECODER_ERRORS, refuse_json
from schemas.errors import Reason, Rejectable

#: Media types of the structured modes, and of lines.
ONE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
LINES: Final = ("application/x-ndjson", "application/jsonl")
#: How a header of the HTTP binding begins; in Kafka's it is `ce_`.
HTTP_PREFIX: Final = "ce-"

_ATTRIBUTE: Final = re.compile(r"[a-z0-9]{1,20}\Z")
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_decode_raw: Final = msgspec.json.Decoder(Raw).decode


def split_lines(body: bytes) -> list[tuple[int, bytes]]:
    """(line number from 1, its bytes) of every line that is not blank."""
    return [
        (number, line.strip(b"\r\n")) for number, line in enumerate(io.BytesIO(body), 1) if not line.isspace()
    ]


def compose_binary(attributes: Mapping[str, str], content_type: str, data: bytes) -> Item:
    """The structured event of attributes (without prefix) and data. Values must be decoded already.

    The content type is the attribute `datacontenttype`. Data that is no JSON is no event of ours; what is
    kept of it then is the structured event with `data_base64`.
    """
    event: dict[str, object] = {
        name: value for name, value in attributes.items() if name not in ("data", "datacontenttype")
    }
    for name in event:
        if not _ATTRIBUTE.match(name):
            return _refused(
                event,
                content_type,
                data,
                name,
                f"expected a name of at most 20 a-z and 0-9, got {name[:100]!r}",
            )
    if content_type:
        event["datacontenttype"] = content_type
    if not data:
        return msgspec.json.encode(event)
    try:
        return msgspec.json.encode({**event, "data": _decode_raw(data)})
    except DECODER_ERRORS as error:
        return Undecoded(_with_bytes(event, data), refuse_json(error, field="data"))


def compose_http(headers: Iterable[tuple[str, str]], content_type: str, data: bytes) -> Item:
    """The event of a request in binary mode; headers in lower case, values as latin-1 text.

    Values are unquoted (RFC 7230 §3.2.6), then percent-decoded once, as the HTTP binding says (§3.1.3.2).
    """
    attributes: dict[str, str] = {}
    refusal: tuple[str, str] | None = None
    for name, value in headers:
        if not name.startswith(HTTP_PREFIX):
            continue
        attribute = name.removeprefix(HTTP_PREFIX)
        if attribute in attributes and refusal is None:
            refusal = attribute, f"expected one header {name}, got several"
        try:
            attributes[attribute] = _decode_header(value)
        except UnicodeDecodeError:
            refusal = attribute, f"expected percent-encoded UTF-8 in {name}, got {value[:100]!r}"
    if refusal is not None:
        return _refused(dict(attributes), content_type, data, *refusal)
    return compose_binary(attributes, content_type, data)


def _decode_header(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] == '"':
        value = _ESCAPED.sub(r"\1", value[1:-1])
    # A server hands headers over as latin-1; bytes that should have been escaped are UTF-8 with most senders.
    return unquote_to_bytes(value.encode("latin-1")).decode()


def _refused(event: dict[str, object], content_type: str, data: bytes, field: str, message: str) -> Undecoded:
    if content_type:
        event["datacontenttype"] = content_type
    why = Rejectable(Reason.INVALID_ENVELOPE, f"{field[:100]}: {message}", field=field[:100])
    return Undecoded(_with_bytes(event, data), why)


def _with_bytes(event: Mapping[str, object], data: bytes) -> bytes:
    return msgspec.json.encode({**event, "data_base64": base64.b64encode(data).decode()})
