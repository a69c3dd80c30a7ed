"""`RowSink` and `RecordLookup` over ClickHouse, through clickhouse-connect."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from clickhouse_connect.datatypes.registry import get_from_name
from clickhouse_connect.driver.binding import format_query_value
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.insert import InsertContext

from infra.clickhouse.connection import LIVE, Databases, explain
from streams.ports import TABLES, Arrays, Block, QueryKey, Table

#: Above this many ids in a statement it is cheaper to send another.
_IDS_A_STATEMENT: Final = 5_000
_MAX_QUERY_BYTES: Final = 64 << 20
#: Types whose Native form is an array's own memory.
_NATIVE: Final = {
    name: np.dtype(form)
    for name, form in (
        *(("UInt8", "u1"), ("UInt32", "<u4"), ("UInt64", "<u8"), ("Int32", "<i4"), ("Int64", "<i8")),
        ("DateTime64(6, 'UTC')", "<i8"),
    )
}


class ClickHouseRowSink:
    """Inserts columns as Native blocks.

    One insert is one block, and a block is stored whole or not at all. Inserts are plain, into tables whose
    key is fixed by the row: inserting again changes nothing that a view shows.
    """

    def __init__(self, client: Client, databases: Databases = LIVE) -> None:
        self._client = client
        self._databases = databases
        self._types = {
            table: {name: get_from_name(declared) for name, declared in columns.items()}
            for table, columns in TABLES.items()
        }

    def prepare(self, table: Table, columns: Mapping[str, Any]) -> Block:
        """Encode. Raises Rejectable(storage_refused) if a value does not fit its column."""
        rows = len(next(iter(columns.values())))
        if rows == 0:
            return Block(table, 0, b"")
        try:
            if any(len(column) != rows for column in columns.values()):
                lengths = [len(column) for column in columns.values()]
                raise ValueError(f"columns of different lengths: {lengths}")
            encoded = self._encode(table, rows, columns)
        except Exception as error:
            raise explain(error, f"encoding {rows} rows of {table}", rows=True) from error
        return Block(table, rows, encoded)

    def _encode(self, table: Table, rows: int, columns: Mapping[str, Any]) -> bytes:
        """One Native block: numbers of columns and rows, then name, type and values of each column.

        The client's own loop around the same column writers would import pandas to look for a DataFrame.
        """
        types = self._types[table]
        context = InsertContext(table, [], [])
        block = bytearray(_varint(len(columns)) + _varint(rows))
        for name, values in columns.items():
            for text in (name.encode(), types[name].insert_name.encode()):
                block += _varint(len(text)) + text
            context.start_column(name)
            _write_column(types[name], values, block, context)
        return bytes(block)

    async def insert(self, block: Block) -> None:
        """Store a block. Raises Retryable, Rejectable(storage_refused), Fatal."""
        if block.rows:
            await asyncio.to_thread(self._insert, block)

    def _insert(self, block: Block) -> None:
        try:
            # no list of columns: a Native block names its own, and what it lacks takes its default
            self._client.raw_insert(
                f"{self._databases.store}.{block.table}", insert_block=block.payload, fmt="Native"
            )
        except Exception as error:
            raise explain(error, f"writing {block.rows} rows of {block.table}", rows=True) from error


class ClickHouseRecordLookup:
    """Reads records back by primary key, before or after merges: an insert that returned is seen."""

    def __init__(self, client: Client, databases: Databases = LIVE) -> None:
        self._client = client
        self._store = databases.store

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        """Stored records of these queries. Raises Retryable, Fatal."""
        wanted = sorted(queries)
        found: dict[QueryKey, list[bytes]] = {}
        for start in range(0, len(wanted), _IDS_A_STATEMENT):
            await asyncio.to_thread(self._collect, wanted[start : start + _IDS_A_STATEMENT], found)
        return found

    def _collect(self, queries: Sequence[QueryKey], found: dict[QueryKey, list[bytes]]) -> None:
        of_tenant: dict[str, list[str]] = {}
        for tenant, query_id in queries:
            of_tenant.setdefault(tenant, []).append(query_id)
        # one condition a tenant: a set of single strings prunes granules at half the cost of a set of pairs
        condition = " OR ".join(
            f"(tenant = {format_query_value(tenant)} AND query_id IN ({_literals(ids)}))"
            for tenant, ids in of_tenant.items()
        )
        for tenant, query_id, record in self._rows(
            f"SELECT tenant, query_id, record FROM {self._store}.events WHERE {condition}",
            "looking records up",
        ):
            found.setdefault((_text(tenant), _text(query_id)), []).append(record)

    async def lifecycle_before(self, tenant: str, partition: int, offset: int) -> list[bytes]:
        """The tenant's lifecycle before this offset. Raises Retryable, Fatal."""
        rows = await asyncio.to_thread(
            self._rows,
            f"SELECT record FROM {self._store}.lifecycle FINAL WHERE tenant = {format_query_value(tenant)} "
            f"AND partition = {int(partition)} AND offset < {int(offset)} ORDER BY offset",
            "reading the lifecycle back",
        )
        return [record for (record,) in rows]

    def _rows(self, sql: str, doing: str) -> Sequence[Sequence[Any]]:
        try:
            return self._client.query(  # type: ignore[no-any-return]
                sql,
                query_formats={"String": "bytes"},
                settings={"max_query_size": _MAX_QUERY_BYTES},
            ).result_rows
        except Exception as error:
            raise explain(error, doing) from error


def _write_column(declared: Any, values: Any, block: bytearray, context: InsertContext) -> None:
    declared.write_column_prefix(block)
    while isinstance(values, Arrays):  # the offsets of each level, then the values of the innermost
        block += values.ends.astype("<u8").tobytes()
        values, declared = values.items, declared.element_type
    if isinstance(values, np.ndarray):
        if values.dtype == _NATIVE.get(declared.name):
            block += values.tobytes()
            return
        values = values.tolist()  # the client's writers refuse numpy's scalars
    declared.write_column_data(values, block, context)


def _literals(values: Sequence[str]) -> str:
    return ", ".join([str(format_query_value(value)) for value in values])


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _varint(number: int) -> bytes:
    """LEB128, unsigned."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
