"""Rows of a table as they are compared: whole, but for where they were read from, by content."""

from __future__ import annotations

from typing import Any

from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import Databases
from streams.memory import MemoryStore
from streams.ports import Table
from streams.tables import POSITION, TABLES

#: Values in the order of the table's columns; strings as bytes, times as microseconds since 1970.
Content = tuple[Any, ...]


def held_in_memory(store: MemoryStore, table: Table) -> list[Content]:
    """Its rows, sorted, without deleted ones."""
    columns = _columns(table)
    return sorted(
        (
            tuple(_plain(row[name], declared) for name, declared in columns.items())
            for row in store.rows(table)
            if not row.get("deleted")
        ),
        key=repr,
    )


def held_on_clickhouse(client: Client, databases: Databases, table: Table) -> list[Content]:
    """Its rows after a merge, sorted, without deleted ones."""
    columns = _columns(table)
    rows = client.query(
        f"SELECT {', '.join(_read(name, declared) for name, declared in columns.items())} "
        f"FROM {databases.store}.{table} FINAL",
        query_formats={"String": "bytes"},
    ).result_rows
    return sorted(
        (
            tuple(_plain(value, declared) for value, declared in zip(row, columns.values(), strict=True))
            for row in rows
        ),
        key=repr,
    )


def _columns(table: Table) -> dict[str, str]:
    return {name: declared for name, declared in TABLES[table].items() if name not in POSITION}


def _read(name: str, declared: str) -> str:
    if "DateTime64" not in declared:
        return f"`{name}`"
    if declared.startswith("Array"):
        return f"arrayMap(moment -> toUnixTimestamp64Micro(moment), `{name}`)"
    return f"toUnixTimestamp64Micro(`{name}`)"


def _plain(value: Any, declared: str) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item, declared) for item in value]
    if isinstance(value, str):
        return value.encode()
    return float(value) if "Float64" in declared and value is not None else value
