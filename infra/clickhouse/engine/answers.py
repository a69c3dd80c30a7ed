"""What goes with an answer: its counts, and the Native block that the embedded engine leaves out."""

from collections.abc import Iterable, Mapping
from contextlib import suppress

import msgspec

from .connection import Result


class Summary(msgspec.Struct):
    """What X-ClickHouse-Summary tells; ClickHouse sends these numbers as strings."""

    read_rows: str = "0"
    read_bytes: str = "0"
    written_rows: str = "0"
    written_bytes: str = "0"
    total_rows_to_read: str = "0"
    result_rows: str = "0"
    result_bytes: str = "0"
    elapsed_ns: str = "0"

    def count_read(self, result: Result) -> None:
        """Takes the counts of a result, or of a stream's latest piece, which counts from its beginning."""
        with suppress(Exception):  # some results carry no counts
            self.read_rows = str(max(int(self.read_rows), result.storage_rows_read()))
            self.read_bytes = str(max(int(self.read_bytes), result.storage_bytes_read()))
            self.result_rows = str(max(int(self.result_rows), result.rows_read()))

    def count_written(self, rows: int, size_bytes: int) -> None:
        """Takes the counts of an INSERT."""
        self.written_rows = self.read_rows = self.result_rows = str(rows)
        self.written_bytes = str(size_bytes)


def empty_block(columns: Iterable[Mapping[str, str]]) -> bytes:
    """A block of no rows in format Native from rows of DESCRIBE (name, type); no bytes for no columns."""
    described = list(columns)
    if not described:
        return b""
    head = _varint(len(described)) + _varint(0)
    return head + b"".join(_text(column["name"]) + _text(column["type"]) for column in described)


def _varint(number: int) -> bytes:
    """LEB128, as ClickHouse writes lengths."""
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _text(value: str) -> bytes:
    return _varint(len(value.encode())) + value.encode()
