"""The one way to read a body: its size, its encoding, its media type, how deep it nests.

Every route that takes a body reads it by `Door.read` or `read_body`; both hand out plain bytes.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec
import zstandard
from litestar import Request
from litestar.exceptions import ClientException

from api.http.problems import Problem
from ingest.refusals import DECODER_ERRORS, DecoderError, refuse_json
from ingest.strict_json import MAX_NESTING, nested_deeper, refuse_nesting, refuse_number

AnyRequest = Request[Any, Any, Any]
_T = TypeVar("_T")

#: What a body may be packed in, beside `identity`.
ENCODINGS: Final = ("gzip", "deflate", "zstd")
#: A body that is too large is read until it is this many times too large.
_READ_ON: Final = 16
#: Plain bytes that are unpacked before other requests get their turn.
_PIECE_BYTES: Final = 256 * 1024
#: Packed bytes handed over at once.
_PACKED_PIECE_BYTES: Final = 64 * 1024
#: Packed zstd bytes handed over at once: a block of 4 bytes may unpack to 128 KiB, so at most 8 MiB come out.
_ZSTD_PIECE_BYTES: Final = 256
#: A frame that wants a larger window would have to be unpacked in more memory than this.
_ZSTD_WINDOW_BYTES: Final = 8 * 1024 * 1024

_ACCEPTED: Final = {"accept-encoding": ", ".join((*ENCODINGS, "identity"))}


async def read_body(request: AnyRequest, max_bytes: int) -> bytes:
    """The body of a request, unpacked (`content-encoding`: gzip, deflate or zstd).

    `max_bytes` bounds what comes and what is made of it: unpacking stops there, whatever the ratio. Raises
    Problem: 413 if either is larger, 415 for another encoding or several, 400 if the stream is damaged, ends
    early or is followed by something.

    What is too large is read on for a while and thrown away: a caller that is still writing when the
    connection ends would see a reset and no answer.
    """
    encoding = _encoding_of(request)
    kept: list[bytes] = []
    length = 0
    more = True
    while more:  # as `request.stream` does it, without a generator for each request
        message: Any = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientException("the connection ended before the body did")
        chunk: bytes = message.get("body", b"")
        more = message.get("more_body", False)
        length += len(chunk)
        if length <= max_bytes:
            kept.append(chunk)
        elif length > _READ_ON * max_bytes:
            break
    if length > max_bytes:
        raise _too_large(max_bytes, "")
    body = kept[0] if len(kept) == 1 else b"".join(kept)
    return body if encoding is None or not body else await _unpack(body, encoding, max_bytes)


def header_of(request: AnyRequest, name: bytes) -> str | None:
    """A header, by its name in lower case; of several of one name the first, None if there is none.

    `request.headers` would make a multi-dictionary of all of them, for every request.
    """
    for known, value in request.scope["headers"]:
        if known == name:
            return value.decode("latin-1")
    return None


def media_type_of(request: AnyRequest) -> str:
    """The media type of the body, without parameters. Raises Problem 415 for a charset that is not UTF-8."""
    media_type, _, parameters = (header_of(request, b"content-type") or "").lower().partition(";")
    if parameters:
        _, _, charset = parameters.partition("charset=")
        charset = charset.partition(";")[0].strip(' "')
        if charset not in ("", "utf-8", "utf8"):
            raise Problem(415, "unsupported-media-type", f"expected UTF-8, got charset {charset[:40]!r}")
    return media_type.strip()


def require_json(request: AnyRequest) -> str:
    """The media type of the body. Raises Problem 415 unless it is `application/json`."""
    media_type = media_type_of(request)
    if media_type != "application/json":
        raise Problem(
            415, "unsupported-media-type", f"expected application/json, got {media_type[:100] or 'nothing'!r}"
        )
    return media_type


def decode_json(body: bytes, decode: Callable[[bytes], _T], expected: str) -> _T:
    """The value of a JSON body; `decode` is that of a msgspec decoder, `expected` says what it takes.

    Raises Problem 400: no JSON, not what was expected (with the field), or nested deeper than MAX_NESTING.
    """
    check_nesting(body)
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise Problem(
            400, "invalid", f"expected {expected}: {error}", extensions={"field": _field_of(error)}
        ) from error
    except DECODER_ERRORS as error:
        raise unparseable(body, error) from error


def unparseable(body: bytes, error: DecoderError) -> Problem:
    """The 400 for a body that is no JSON: too deep, a number that JSON does not have, or what else it is."""
    if isinstance(error, RecursionError):
        return _too_deep()
    why = refuse_number(body) or refuse_json(error, field="")
    return Problem(400, "unparseable", why.message, extensions={"field": why.field} if why.field else None)


def check_nesting(body: bytes) -> None:
    """Raises Problem 400 for JSON that is nested deeper than MAX_NESTING; says nothing of what is no JSON."""
    if body.count(b"[") + body.count(b"{") <= MAX_NESTING:
        return
    if nested_deeper(body, MAX_NESTING):
        raise _too_deep()


def _field_of(error: msgspec.ValidationError) -> str:
    """`hits.0.rank` of a decoder's `… - at `$.hits[0].rank``; for an absent or unknown field its name."""
    text = str(error)
    path = ".".join(re.findall(r"[^.\[\]$`]+", text.partition(" - at `$")[2]))
    named = re.match(r"Object (?:missing required|contains unknown) field `([^`]*)`", text)
    return ".".join(part for part in (path, named[1] if named else "") if part)


def _encoding_of(request: AnyRequest) -> str | None:
    """The name of the one encoding, None for a plain body. Raises Problem 415."""
    if header_of(request, b"content-encoding") is None:
        return None
    text = ",".join(request.headers.getall("content-encoding"))
    encoding = text.strip().lower().removeprefix("x-")
    if encoding in ("", "identity"):
        return None
    if encoding not in ENCODINGS:
        several = "one encoding" if "," in encoding else "no content-encoding"
        raise Problem(
            415,
            "unsupported-media-type",
            f"expected {several} or one of {', '.join(ENCODINGS)}, got {text[:100]!r}; send it plain",
            headers=_ACCEPTED,
        )
    return encoding


async def _unpack(packed: bytes, encoding: str, max_bytes: int) -> bytes:
    pieces: list[bytes] = []
    length = since_pause = 0
    try:
        for piece in _zstd(packed) if encoding == "zstd" else _inflate(packed, encoding):
            length += len(piece)
            if length > max_bytes:
                raise _too_large(max_bytes, " once unpacked")
            pieces.append(piece)
            since_pause += len(piece)
            if since_pause >= _PIECE_BYTES:
                since_pause = 0
                await asyncio.sleep(0)
    except (zlib.error, zstandard.ZstdError) as error:
        raise Problem(
            400,
            "unparseable",
            f"expected a body packed with {encoding}, as content-encoding says, but: {error}",
        ) from error
    return b"".join(pieces)


def _inflate(packed: bytes, encoding: str) -> Iterator[bytes]:
    """Plain pieces of a gzip (RFC 1952) or zlib (RFC 1950, what HTTP calls deflate) stream."""
    unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16 if encoding == "gzip" else zlib.MAX_WBITS)
    for at in range(0, len(packed), _PACKED_PIECE_BYTES):
        rest = packed[at : at + _PACKED_PIECE_BYTES]
        full = True
        while full or rest:  # a piece may be full with nothing left to hand over, and more to come out
            piece = unpacker.decompress(rest, _PIECE_BYTES)
            rest = unpacker.unconsumed_tail
            full = len(piece) == _PIECE_BYTES
            yield piece
        if unpacker.eof:
            after = len(unpacker.unused_data) + max(0, len(packed) - at - _PACKED_PIECE_BYTES)
            if after:
                raise _goes_on(encoding, after)
            return
    raise _ends_early(encoding)


def _zstd(packed: bytes) -> Iterator[bytes]:
    """Plain pieces of a zstd (RFC 8878) frame."""
    unpacker = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
    for at in range(0, len(packed), _ZSTD_PIECE_BYTES):
        yield unpacker.decompress(packed[at : at + _ZSTD_PIECE_BYTES])
        if unpacker.eof:
            after = len(unpacker.unused_data) + max(0, len(packed) - at - _ZSTD_PIECE_BYTES)
            if after:
                raise _goes_on("zstd", after)
            return
    raise _ends_early("zstd")


def _too_deep() -> Problem:
    return Problem(400, "unparseable", refuse_nesting().message)


def _too_large(max_bytes: int, when: str) -> Problem:
    return Problem(413, "too-large", f"expected a body of at most {max_bytes} bytes{when}; send less at once")


def _ends_early(encoding: str) -> Problem:
    return Problem(
        400, "unparseable", f"expected a whole {encoding} stream, but it ends early; send all of it"
    )


def _goes_on(encoding: str, after: int) -> Problem:
    return Problem(
        400,
        "unparseable",
        f"expected one {encoding} stream and nothing after it, got {after} bytes more; pack the body as one",
    )
