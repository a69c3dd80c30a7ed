"""Files to import, unit by unit: a line of JSON, a row of CSV or Parquet. They stream, packed or not."""

from __future__ import annotations

import csv
import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final, NamedTuple

import msgspec
import zstandard

from schemas.errors import RatchetError, Reason, Rejectable

#: A longer line is refused and not read whole.
MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_PARQUET: Final = b"PAR1"
_DELIMITERS: Final = ",;\t|"
_ROWS: Final = 1_000
#: Packed bytes that are unpacked at once: they may become 30,000 times as many.
_ZSTD_PIECE_BYTES: Final = 4 * 1024
_NANOSECONDS: Final = "ns"

#: Called with how many bytes of the file were read so far.
Watch = Callable[[int], None]


class Unreadable(RatchetError):
    """A file that cannot be read, or not further; the text says where, and what to do."""


class Unit(NamedTuple):
    """A line or a row, numbered from 1. `content` is JSON, or whatever a line holds.

    `why`: the reader refuses it itself.
    """

    number: int
    content: bytes
    why: Rejectable | None = None


class _Counted(io.RawIOBase):
    """A file that says how far it was read."""

    def __init__(self, inner: BinaryIO, watch: Watch) -> None:
        self._inner = inner
        self._watch = watch
        self._read = 0

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        if self._inner is not sys.stdin.buffer:
            self._inner.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        content = self._inner.read(len(buffer))
        buffer[: len(content)] = content
        self._read += len(content)
        self._watch(self._read)
        return len(content)


class _Gzip(gzip.GzipFile):
    """Unpacked gzip that closes the file that it reads."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        super().__init__(fileobj=packed, mode="rb")

    def close(self) -> None:
        super().close()
        self._packed.close()


class _Zstd(io.RawIOBase):
    """Unpacked zstd, of one frame or several. Unlike zstandard's reader it notices a file that ends early."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed = packed
        self._frame: Any = zstandard.ZstdDecompressor().decompressobj()
        self._fresh = True
        self._plain = memoryview(b"")

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._packed.close()
        super().close()

    def readinto(self, buffer: Any) -> int:
        while not self._plain:
            packed = self._frame.unused_data if self._frame.eof else b""
            if self._frame.eof:
                self._frame = zstandard.ZstdDecompressor().decompressobj()
                self._fresh = True
            packed = packed or self._packed.read(_ZSTD_PIECE_BYTES)
            if not packed:
                if not self._fresh:
                    raise EOFError("the packed stream ends before its end")
                return 0
            self._fresh = False
            self._plain = memoryview(self._frame.decompress(packed))
        length = min(len(buffer), len(self._plain))
        buffer[:length] = self._plain[:length]
        self._plain = self._plain[length:]
        return length


def open_plain(path: str, watch: Watch = lambda _: None) -> BinaryIO:
    """The bytes of a file, unpacked if it is gzip or zstd (by its first bytes); `-` is standard input.

    Raises Unreadable.
    """
    try:
        raw = sys.stdin.buffer if path == "-" else Path(path).open("rb")  # noqa: SIM115 - lives as long as we
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror}") from error
    stream = io.BufferedReader(_Counted(raw, watch), 256 * 1024)
    head = stream.peek(4)[:4]
    if head[:2] == _GZIP:
        return _Gzip(stream)  # type: ignore[return-value]
    if head == _ZSTD:
        return io.BufferedReader(_Zstd(stream), 256 * 1024)
    return stream


def read_lines(stream: BinaryIO) -> Iterator[Unit]:
    """Lines that are not blank. Raises Unreadable where a packed file is damaged."""
    for number, line in _lines(stream):
        content = line.strip()
        if number == 1:
            content = content.removeprefix(_BOM)
        if len(line) >= MAX_LINE_BYTES:
            yield Unit(number, content[: MAX_LINE_BYTES // 16], _too_long())
        elif content:
            yield Unit(number, content)


def _too_long() -> Rejectable:
    return Rejectable(
        Reason.TOO_LARGE,
        f"expected a line of less than {MAX_LINE_BYTES:,} bytes; its beginning is kept: give one value a "
        "line (`jq -c '.[]'` makes lines of an array)",
    )


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number, line). Of one that is too long the beginning. Closes the file when it is done with."""
    with stream:
        number = 0
        while True:
            number += 1
            try:
                line = stream.readline(MAX_LINE_BYTES)
                rest = line
                while len(rest) >= MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = stream.readline(MAX_LINE_BYTES)
            except (EOFError, OSError, zlib.error, zstandard.ZstdError) as error:
                raise _damaged(number, error) from error
            if not line:
                return
            yield number, line


def _damaged(number: int, error: Exception) -> Unreadable:
    return Unreadable(
        f"the file cannot be read beyond line {number - 1:,} ({error}): what is before it was taken; get the "
        "whole file and run the same import again"
    )


class Csv:
    """A CSV file: the header, then its rows as JSON objects. Empty cells are null."""

    def __init__(self, stream: BinaryIO, delimiter: str = "") -> None:
        """Reads the header. Raises Unreadable if there is none, or a name stands twice or is missing."""
        csv.field_size_limit(MAX_LINE_BYTES)
        self._stream = stream
        #: Lines of the row that is read now.
        self._raw: list[bytes] = []
        lines = (line for _, line in _lines(stream))
        first = next(lines, b"").removeprefix(_BOM)
        header = first.decode("utf-8", "surrogateescape")
        delimiter = delimiter or max(_DELIMITERS, key=header.count)
        self._reader = csv.reader(self._texts(header, lines), delimiter=delimiter, strict=True)
        try:
            self.columns = [name.strip() for name in next(self._reader, [])]
        except csv.Error as error:
            raise Unreadable(f"the first line is no header: {error}") from error
        if not all(self.columns) or len(set(self.columns)) != len(self.columns) or not self.columns:
            raise Unreadable(
                f"expected a header, a different name for each column, got {header.strip()[:200]!r}; "
                "--delimiter says what stands between them"
            )

    def __iter__(self) -> Iterator[Unit]:
        """Rows, numbered by the line on which they begin; a row that is none comes with the reason."""
        while True:
            number = self._reader.line_num + 1
            self._raw.clear()
            try:
                cells = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield self._refused(number, f"no row of CSV: {error}")
                continue
            if cells:
                yield self._unit(number, cells)

    def close(self) -> None:
        """Close the file; one that was read to its end is closed."""
        self._stream.close()

    def _unit(self, number: int, cells: Sequence[str]) -> Unit:
        try:
            if len(cells) == len(self.columns):
                row = {name: cell or None for name, cell in zip(self.columns, cells, strict=True)}
                return Unit(number, msgspec.json.encode(row))
            return self._refused(number, f"expected {len(self.columns)} cells, got {len(cells)}")
        except UnicodeEncodeError:
            return self._refused(number, "expected text in UTF-8")

    def _refused(self, number: int, why: str) -> Unit:
        return Unit(number, b"".join(self._raw), Rejectable(Reason.INVALID_VALUE, why))

    def _texts(self, header: str, lines: Iterator[bytes]) -> Iterator[str]:
        yield header
        for line in lines:
            self._raw.append(line)
            yield line.decode("utf-8", "surrogateescape")


class Parquet:
    """A Parquet file: its columns, then its rows as JSON objects. Needs the extra `files`."""

    def __init__(self, path: str, watch: Watch = lambda _: None) -> None:
        """Reads the footer. `watch` hears of rows, not bytes. Raises Unreadable."""
        self._watch = watch
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise Unreadable(
                "Parquet needs the extra `files`: pip install 'ratchet-platform[files]'"
            ) from error
        self._arrow: Any = pyarrow
        try:
            self._file = pyarrow.parquet.ParquetFile(path)
        except (OSError, pyarrow.ArrowException) as error:
            raise Unreadable(f"{path} cannot be read as Parquet: {error}") from error
        self.columns: list[str] = list(self._file.schema_arrow.names)
        self.rows: int = self._file.metadata.num_rows

    def __iter__(self) -> Iterator[Unit]:
        """Rows, numbered from 1. Raises Unreadable where the file is damaged."""
        number = 0
        try:
            for batch in self._file.iter_batches(batch_size=_ROWS):
                self._watch(number + batch.num_rows)
                for row in self._plain(batch).to_pylist():
                    number += 1
                    yield Unit(number, msgspec.json.encode(row, enc_hook=str))
        except (OSError, self._arrow.ArrowException) as error:
            raise Unreadable(f"the file cannot be read beyond row {number:,}: {error}") from error

    def _plain(self, batch: Any) -> Any:
        """Without nanoseconds, which Python's times do not have."""
        arrow = self._arrow
        fields = []
        for field in batch.schema:
            if arrow.types.is_timestamp(field.type) and field.type.unit == _NANOSECONDS:
                fields.append(field.with_type(arrow.timestamp("us", tz=field.type.tz)))
            else:
                fields.append(field)
        table = arrow.Table.from_batches([batch])
        return table.cast(arrow.schema(fields), safe=False)
