"""Rows that come with an INSERT, stored so that an error of the storage is seen.

chDB's streaming insert says what is wrong with the bytes, but not what is wrong with the storage: on a full
disk, or where a constraint is violated, `finish` counts every row as written and none is there (measured
with 4.4). INSERT … SELECT does say so. So rows are streamed into a table in memory first.
"""

import re
import secrets
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec

from .connection import Connection, quote_name
from .errors import EngineError
from .statements import Insert

_PIECE_BYTES: Final = 4 << 20
_COMMENTS: Final = r"(?:\s|--[^\n]*\n|#![^\n]*\n|/\*.*?\*/)*"
_NAME: Final = r"(?:`(?:[^`\\]|\\.)+`|\"(?:[^\"\\]|\\.)+\"|\w+)"
_TARGET: Final = re.compile(
    rf"\A{_COMMENTS}INSERT\s+INTO\s+(?:TABLE\s+(?!FUNCTION\b))?(?!FUNCTION\b)"
    rf"(?P<table>{_NAME}(?:\s*\.\s*{_NAME})?)\s*"
    r"(?P<columns>\((?:`[^`]*`|\"[^\"]*\"|[^()`\"]|\([^()]*\))*\))?\s*(?P<settings>SETTINGS\b.*)?\Z",
    re.IGNORECASE | re.DOTALL,
)


class Written(NamedTuple):
    """What an insert stored."""

    rows: int
    size_bytes: int


class Target(NamedTuple):
    """INSERT INTO `table` `columns` `settings`; the latter two may be empty."""

    table: str
    columns: str
    settings: str


def find_target(head: str) -> Target | None:
    """The table that an INSERT without its FORMAT names; None for a table function."""
    found = _TARGET.match(head)
    return None if found is None else Target(found["table"], found["columns"] or "", found["settings"] or "")


def insert_rows(connection: Connection, insert: Insert, data: bytes) -> Written:
    """Store these rows: all of them, or raise. A block over several partitions may be stored in part."""
    target = find_target(insert.head)
    if target is None:  # a table function: what it writes is no table of ours
        return stream_rows(connection, insert, data)
    stage = quote_name(f"_insert_{secrets.token_hex(8)}")
    connection.query(f"CREATE TEMPORARY TABLE {stage} ({_columns_of(connection, target.table)})", "Null")
    try:
        head = f"INSERT INTO {stage} {target.columns} {target.settings}"
        came = stream_rows(connection, Insert(head, insert.format, insert.data), data)
        stored = connection.query(
            f"INSERT INTO {target.table} {target.settings} SELECT * FROM {stage}", "Null"
        )
        written = Written(stored.rows_written(), stored.bytes_written())
    finally:
        with suppress(Exception):
            connection.query(f"DROP TEMPORARY TABLE {stage}", "Null")
    if written.rows < came.rows:  # more, if a view writes them, too
        raise EngineError(
            f"Of {came.rows} rows only {written.rows} were stored in {target.table}: insert them again."
        )
    return written


def stream_rows(connection: Connection, insert: Insert, data: bytes) -> Written:
    """Stream these rows in. Raises if they cannot be read; says nothing of the storage."""
    stream: Any = connection.send_insert(insert.head, insert.format)
    try:
        for whole in (memoryview(insert.data), memoryview(data)):
            for at in range(0, len(whole), _PIECE_BYTES):
                stream.append(bytes(whole[at : at + _PIECE_BYTES]))
        done = stream.finish()
        return Written(done.rows_written, done.bytes_written)
    except BaseException:
        with suppress(Exception):
            stream.cancel()
        raise


def _columns_of(connection: Connection, table: str) -> str:
    """The columns that rows may name, with their defaults and without indices, constraints and codecs."""
    described = connection.query(f"DESCRIBE TABLE {table}", "JSONEachRow").bytes() or b""
    columns = []
    for line in described.splitlines():
        column = msgspec.json.decode(line)
        if column["default_type"] in ("MATERIALIZED", "ALIAS"):
            continue
        default = (
            f" {column['default_type']} {column['default_expression']}" if column["default_type"] else ""
        )
        columns.append(f"{quote_name(column['name'])} {column['type']}{default}")
    return ", ".join(columns)
