"""Records of a partition in a file: a zstd stream of frames, and nothing else.

A frame is, little-endian: offset (u64), timestamp (i64, milliseconds since 1970), length of the key (u32),
length of the value (u32), key, value. Frames stand in the order of their offsets.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, Self

import zstandard

from schemas.errors import Fatal
from streams.ports import Message

_FRAME: Final = struct.Struct("<QqII")
_LEVEL: Final = 3
_READ_BYTES: Final = 1 << 20


class RecordWriter:
    """Writes one file; a context manager. `sha256`, `records` and `bytes` hold after its end."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL).compressobj()
        self._hash = hashlib.sha256()
        self.records = 0
        self.bytes = 0

    @property
    def sha256(self) -> str:
        """Of the file as it lies on the disk, in hex."""
        return self._hash.hexdigest()

    def write(self, messages: Sequence[Message]) -> None:
        """Append records."""
        parts: list[bytes] = []
        for m in messages:
            parts += (_FRAME.pack(m.offset, m.timestamp_ms, len(m.key), len(m.value)), m.key, m.value)
        self.records += len(messages)
        self._put(self._compressor.compress(b"".join(parts)))

    def _put(self, content: bytes) -> None:
        self._file.write(content)
        self._hash.update(content)
        self.bytes += len(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._put(self._compressor.flush())
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()


def read_records(path: Path, topic: str, partition: int) -> Iterator[Message]:
    """The records of a file, in order. Raises Fatal if it is cut off or is no such file."""
    try:
        with path.open("rb") as file, zstandard.ZstdDecompressor().stream_reader(file) as stream:
            while head := _exactly(stream, _FRAME.size, path):
                offset, timestamp_ms, key_length, value_length = _FRAME.unpack(head)
                body = _exactly(stream, key_length + value_length, path) if key_length + value_length else b""
                if len(body) != key_length + value_length:
                    raise Fatal(f"{path} ends in the middle of a record: take another copy of the backup")
                yield Message(topic, partition, offset, body[:key_length], body[key_length:], timestamp_ms)
    except (OSError, zstandard.ZstdError) as error:
        raise Fatal(f"{path} cannot be read: {error}; take another copy of the backup") from error


def _exactly(stream: Any, size: int, path: Path) -> bytes:
    """So many bytes, or none at the end."""
    content = bytes(stream.read(size))
    while content and len(content) < size:
        more = stream.read(size - len(content))
        if not more:
            raise Fatal(f"{path} ends in the middle of a record: take another copy of the backup")
        content += more
    return content


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises Fatal if it is not there."""
    found = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                found.update(piece)
    except OSError as error:
        raise Fatal(f"{path} cannot be read: {error.strerror}; take another copy of the backup") from error
    return found.hexdigest()
