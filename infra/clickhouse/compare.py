"""Two stores side by side: are their tables equal, and if not, which rows are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from clickhouse_connect.driver.binding import format_query_value
from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import Databases, explain
from streams.ports import TABLES, Difference, Digest

#: Where a row was read from is a hint, and which fold wrote it is said for the whole store: no content.
_NO_CONTENT: Final = frozenset({"topic", "partition", "offset", "fold_version"})
#: A pair has no row of its own: all that the view promises, but not the order of rows.
_PAIR_COLUMNS: Final = (
    "tenant",
    "query_id",
    "query",
    "document_id",
    "label",
    "weight",
    "kind",
    "events",
    "pipeline_version",
    "retrieval_id",
    "rank",
    "propensity",
    "text_hash",
)
#: Rows are first compared in so many heaps by key, then only in the heaps that differ.
_HEAPS: Final = 4096
_HEAPS_LOOKED_INTO: Final = 64


def read_digests(client: Client, databases: Databases) -> dict[str, Digest]:
    """Table or view → rows and wrapping sum of the hashes of their contents. Raises Retryable, Fatal.

    The store hashes what it holds now, not what a writer once said of it: a damaged value is noticed, too.
    """
    found = {}
    try:
        for table in TABLES:
            found[table] = _digest(client, f"{databases.store}.{table} FINAL", content_columns(table))
        found["pairs"] = _digest(client, f"{databases.views}.pairs", _PAIR_COLUMNS)
    except Exception as error:
        raise explain(error, f"comparing {databases.store}") from error
    return found


def content_columns(table: str) -> tuple[str, ...]:
    """The columns whose values make two rows of this table equal."""
    return tuple(name for name in TABLES[table] if name not in _NO_CONTENT)


def find_differences(
    client: Client, first: Databases, second: Databases, table: str, limit: int
) -> list[Difference]:
    """The first `limit` rows by key that the stores do not share. Raises Retryable, Fatal.

    Of `pairs` none: a pair lies in its query's row of `episodes`. Looks into the first heaps of keys that
    differ, so the rows are the first ones of these, not of the whole table, if very many differ.
    """
    if table not in TABLES:
        return []
    try:
        key = sorting_key(client, first, table)
        return _find(client, first, second, table, key, limit)
    except Exception as error:
        raise explain(error, f"comparing {table} of {first.store} and {second.store}") from error


def sorting_key(client: Client, databases: Databases, table: str) -> tuple[str, ...]:
    """The columns that make a row of the table the same row."""
    (row,) = client.query(
        "SELECT sorting_key FROM system.tables WHERE database = {database:String} AND name = {name:String}",
        {"database": databases.store, "name": databases.stored(table).partition(".")[2]},
    ).result_rows
    return tuple(str(row[0]).split(", "))


def _digest(client: Client, source: str, columns: Sequence[str]) -> Digest:
    ((rows, total),) = client.query(f"SELECT count(), sum({_hash(columns)}) FROM {source}").result_rows
    return Digest(int(rows), int(total or 0))


def _hash(columns: Sequence[str]) -> str:
    # of a tuple: a NULL among several arguments would make the hash NULL
    return f"cityHash64(tuple({', '.join(_quoted(columns))}))"


def _quoted(columns: Sequence[str]) -> list[str]:
    return [f"`{name}`" for name in columns]


def _find(
    client: Client, first: Databases, second: Databases, table: str, key: Sequence[str], limit: int
) -> list[Difference]:
    keys, heap = ", ".join(_quoted(key)), f"{_hash(key)} % {_HEAPS}"
    both = " UNION ALL ".join(
        f"SELECT {side} AS side, {{what}} FROM {databases.store}.{table} FINAL {{where}}"
        for side, databases in ((1, first), (2, second))
    )
    content = _hash(content_columns(table))
    heaps = client.query(
        f"SELECT heap FROM ({both.format(what=f'{heap} AS heap, {content} AS content', where='')}) "
        "GROUP BY heap HAVING countIf(side = 1) != countIf(side = 2) "
        "OR sumIf(content, side = 1) != sumIf(content, side = 2) "
        f"ORDER BY heap LIMIT {_HEAPS_LOOKED_INTO}"
    ).result_rows
    if not heaps:
        return []
    where = f"WHERE {heap} IN ({', '.join(str(int(row[0])) for row in heaps)})"
    rows = client.query(
        f"SELECT {', '.join(f'toString({name})' for name in _quoted(key))}, groupUniqArray(side) "
        f"FROM ({both.format(what=f'{keys}, {content} AS content', where=where)}) "
        f"GROUP BY {keys} HAVING uniqExact(side) = 1 OR uniqExact(content) > 1 "
        f"ORDER BY {keys} LIMIT {int(limit)}"
    ).result_rows
    return [
        _difference(client, first, second, table, dict(zip(key, values, strict=True)), sides)
        for *values, sides in rows
    ]


def _difference(
    client: Client, first: Databases, second: Databases, table: str, key: dict[str, str], sides: list[int]
) -> Difference:
    if len(sides) == 1:
        return Difference(table, key, "first" if sides[0] == 1 else "second")
    one, other = (_row(client, databases, table, key) for databases in (first, second))
    columns = content_columns(table)
    names = tuple(name for name, a, b in zip(columns, one, other, strict=True) if a != b)
    return Difference(table, key, "", names)


def _row(client: Client, databases: Databases, table: str, key: dict[str, str]) -> list[Any]:
    condition = " AND ".join(f"toString(`{name}`) = {format_query_value(key[name])}" for name in key)
    hashes = ", ".join(_hash([name]) for name in content_columns(table))
    # the plain condition finds the row by the primary key, the other columns of the key are times or numbers
    leading = " AND ".join(
        f"`{name}` = {format_query_value(key[name])}" for name in key if TABLES[table][name] == "String"
    )
    rows = client.query(
        f"SELECT {hashes} FROM {databases.store}.{table} FINAL WHERE {leading} AND {condition} LIMIT 1"
    ).result_rows
    return list(rows[0]) if rows else [None] * len(content_columns(table))
