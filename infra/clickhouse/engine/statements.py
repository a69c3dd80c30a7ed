"""The few things that must be known of a statement's text before the engine sees it."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from .connection import Connection, Result

_LEAD: Final = re.compile(rb"\A(?:\s+|--[^\n]*\n|#![^\n]*\n|/\*.*?\*/|;)*", re.DOTALL)
_WORD: Final = re.compile(rb"\w+|\(")
_HEAD_BYTES: Final = 1 << 18
_INSERT_FORMAT: Final = re.compile(rb"\bFORMAT[ \t\r\n]+(\w+)[ \t]*(?:\r?\n|;|[ ]|\Z)", re.IGNORECASE)
_QUOTED_OR_LISTED: Final = re.compile(rb"`[^`]*`|\"[^\"]*\"|\([^()]*\)")
_OTHER_SOURCE: Final = re.compile(rb"\b(?:SELECT|VALUES|WITH)\b", re.IGNORECASE)
_OUTPUT_FORMAT: Final = re.compile(rb"\bFORMAT\s+(\w+)\s*(?:SETTINGS\s+[^;]*)?;?\s*\Z", re.IGNORECASE)
_STREAM_ENGINES: Final = re.compile(
    r"^ *Function (?:Kafka|RabbitMQ|NATS|FileLog)\b", re.MULTILINE | re.IGNORECASE
)


class Insert(NamedTuple):
    """INSERT INTO t (…) FORMAT f, cut where its rows begin."""

    #: The statement without FORMAT.
    head: str
    format: str
    #: The rows that came behind it in the same text.
    data: bytes


def leading_word(sql: bytes) -> str:
    """The first word behind comments and white space, in upper case; "(" for a bracket, "" for nothing."""
    start = _LEAD.match(sql)
    word = _WORD.match(sql, start.end() if start else 0)
    return word.group().decode().upper() if word else ""


def split_insert(sql: bytes) -> Insert | None:
    """The parts of an INSERT with rows in a FORMAT; None for VALUES and for INSERT … SELECT."""
    found = _INSERT_FORMAT.search(sql, 0, _HEAD_BYTES)
    if found is None:
        return None
    head = sql[: found.start()]
    if _OTHER_SOURCE.search(_QUOTED_OR_LISTED.sub(b"", head)):
        return None
    return Insert(head.decode(), found.group(1).decode(), sql[found.end() :])


def output_format(sql: bytes) -> str:
    """The format that the statement itself asks for, or ""."""
    found = _OUTPUT_FORMAT.search(sql[-4096:])
    return found.group(1).decode() if found else ""


def without_output_format(sql: bytes) -> bytes:
    """The statement without FORMAT and semicolon at its end, as a subquery has to be."""
    return _OUTPUT_FORMAT.sub(b"", sql).rstrip().rstrip(b";")


def syntax_tree(connection: Connection, sql: bytes, parameters: Mapping[str, str]) -> str:
    """The engine's own parse of the statement, a node a line; runs nothing. Raises what the parser raises."""
    result: Result = connection.query(b"EXPLAIN AST " + sql, "TabSeparatedRaw", parameters)
    return (result.bytes() or b"").decode("utf-8", "replace")


def breaks_directory(connection: Connection, sql: bytes, parameters: Mapping[str, str]) -> bool:
    """Whether the statement makes a table that reads a stream by itself.

    The embedded engine makes such a table and then cannot open its directory any more (measured with Kafka).
    """
    if leading_word(sql) not in ("CREATE", "ATTACH", "REPLACE"):
        return False
    try:
        return _STREAM_ENGINES.search(syntax_tree(connection, sql, parameters)) is not None
    except Exception:  # what cannot be explained cannot be parsed: the statement itself says why
        return False
