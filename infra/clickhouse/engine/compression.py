"""Content codings of bodies: gzip, deflate, lz4 (frame) and zstd, each streaming in both directions."""

import zlib
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol, cast

import lz4.frame
import zstandard

from .errors import CANNOT_DECOMPRESS, LIMIT_EXCEEDED, UNKNOWN_COMPRESSION_METHOD, EngineError

#: What answers may be coded as, best first.
OFFERED: Final = ("zstd", "lz4", "gzip", "deflate")


class Encoder(NamedTuple):
    """A streaming coder: `feed` every piece, then send what `finish` returns."""

    #: The Content-Encoding, or "" for none.
    name: str
    feed: Callable[[bytes], bytes]
    finish: Callable[[], bytes]


def encoder(name: str) -> Encoder:
    """The coder for one answer; `name` is one of OFFERED or ""."""
    if name == "gzip":
        deflate = zlib.compressobj(3, zlib.DEFLATED, 31)
        return Encoder(name, deflate.compress, deflate.flush)
    if name == "deflate":
        deflate = zlib.compressobj(3)
        return Encoder(name, deflate.compress, deflate.flush)
    if name == "zstd":
        coder = zstandard.ZstdCompressor(1).compressobj()
        return Encoder(name, coder.compress, coder.flush)
    if name == "lz4":
        return _lz4_encoder()
    return Encoder("", lambda piece: piece, lambda: b"")


def _lz4_encoder() -> Encoder:
    coder = lz4.frame.LZ4FrameCompressor()
    head = [coder.begin()]

    def feed(piece: bytes) -> bytes:
        coded: bytes = coder.compress(piece)
        return (head.pop() if head else b"") + coded

    def finish() -> bytes:
        coded: bytes = coder.flush()
        return (head.pop() if head else b"") + coded

    return Encoder("lz4", feed, finish)


class _Decoder(Protocol):
    #: True once the end of the coded stream was seen.
    eof: bool

    def decompress(self, data: bytes, /) -> bytes: ...


class BodyReader:
    """Collects a request body, decoded. `add` every piece, then take `finish()`.

    Raises EngineError from `add` and `finish` for an unknown or broken coding, a cut-off body, and a body
    that is larger than `max_bytes` after decoding.
    """

    def __init__(self, coding: str, max_bytes: int) -> None:
        self._body = bytearray()
        self._max_bytes = max_bytes
        self._coding = "" if coding == "identity" else coding
        self._stream = _decoder(self._coding)

    def add(self, piece: bytes) -> None:
        """Takes the next piece as it came over the wire."""
        if self._stream is not None and piece:
            try:
                piece = self._stream.decompress(piece)
            except (zlib.error, RuntimeError, EOFError, zstandard.ZstdError) as error:
                raise EngineError(
                    f"The request body is not valid {self._coding}: {error}. (CANNOT_DECOMPRESS)",
                    CANNOT_DECOMPRESS,
                ) from None
        self._body += piece
        if len(self._body) > self._max_bytes:
            raise EngineError(
                f"The request body is larger than {self._max_bytes} bytes: send smaller batches. "
                "(LIMIT_EXCEEDED)",
                LIMIT_EXCEEDED,
            )

    def finish(self) -> bytes:
        """The whole decoded body."""
        if self._stream is not None and self._body and not self._stream.eof:
            raise EngineError(
                f"The {self._coding} request body was cut off. (CANNOT_DECOMPRESS)", CANNOT_DECOMPRESS
            )
        return bytes(self._body)


def _decoder(coding: str) -> _Decoder | None:
    if not coding:
        return None
    if coding in ("gzip", "x-gzip"):
        return cast(_Decoder, zlib.decompressobj(31))
    if coding == "deflate":
        return cast(_Decoder, zlib.decompressobj())
    if coding == "lz4":
        return cast(_Decoder, lz4.frame.LZ4FrameDecompressor())
    if coding == "zstd":
        return cast(_Decoder, zstandard.ZstdDecompressor().decompressobj())
    raise EngineError(
        f"Content-Encoding {coding} is not known: use gzip, deflate, lz4 or zstd. "
        "(UNKNOWN_COMPRESSION_METHOD)",
        UNKNOWN_COMPRESSION_METHOD,
    )
