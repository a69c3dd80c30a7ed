"""`StoreBeside` on ClickHouse: two more databases, the same migrations, and EXCHANGE TABLES at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import LIVE, Databases, explain
from infra.clickhouse.migrate import drop_databases, migrate, written_fold_version
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from streams.ports import TABLES, Digest, QueryKey

_QUERIES_A_BATCH: Final = 1_000
#: A pair has no hash of its own: all that the view promises, but not the order of rows.
_PAIR_COLUMNS: Final = (
    "tenant, query_id, query, document_id, label, weight, kind, toString(events), pipeline_version, "
    "retrieval_id, rank, ifNull(toString(propensity), ''), text_hash"
)


def beside(living: Databases) -> Databases:
    """Names of the databases that a rebuild fills."""
    return Databases(f"{living.store}_next", f"{living.views}_next")


class ClickHouseStoreBeside:
    """A store in `<name>_next`. One rebuild at a time."""

    def __init__(self, client: Client, living: Databases = LIVE) -> None:
        self._client = client
        self._living = living
        self._next = beside(living)
        self._sink = ClickHouseRowSink(client, self._next)
        self._lookup = ClickHouseRecordLookup(client, self._next)

    @property
    def sink(self) -> ClickHouseRowSink:
        """Writes beside."""
        return self._sink

    @property
    def lookup(self) -> ClickHouseRecordLookup:
        """Reads beside."""
        return self._lookup

    async def create(self) -> None:
        """Lay out both stores; the one beside is empty. Raises Retryable, Fatal."""
        await asyncio.to_thread(self._create)

    def _create(self) -> None:
        try:
            drop_databases(self._client, self._next)
            migrate(self._client, self._living)
            migrate(self._client, self._next)
        except Exception as error:
            raise explain(error, f"creating {self._next.store}") from error

    async def stored_queries(self) -> AsyncIterator[list[tuple[QueryKey, list[bytes]]]]:
        """Records by query in key order, streamed: memory holds a batch, not the store."""
        rows = self._stream_rows()
        batch: list[tuple[QueryKey, list[bytes]]] = []
        while True:
            block = await asyncio.to_thread(next, rows, None)
            if block is None:
                break
            for tenant, query_id, record in block:
                key = (tenant.decode(), query_id.decode())
                if not batch or batch[-1][0] != key:
                    # the last query may go on in the next row: give away those before it
                    if len(batch) >= _QUERIES_A_BATCH:
                        yield batch
                        batch = []
                    batch.append((key, []))
                batch[-1][1].append(record)
        if batch:
            yield batch

    def _stream_rows(self) -> Iterator[list[Any]]:
        try:
            with self._client.query_row_block_stream(
                f"SELECT tenant, query_id, record FROM {self._next.store}.events "
                "ORDER BY tenant, query_id, source, event_id, received_time, content_hash",
                query_formats={"String": "bytes"},
                settings={"max_block_size": 4096, "optimize_read_in_order": 1},
            ) as stream:
                yield from stream
        except Exception as error:
            raise explain(error, "reading the events beside") from error

    async def digests(self) -> tuple[dict[str, Digest], dict[str, Digest]]:
        """Digests of the living store and of the one beside. Raises Retryable, Fatal."""
        return await asyncio.to_thread(lambda: (self._digests(self._living), self._digests(self._next)))

    def _digests(self, databases: Databases) -> dict[str, Digest]:
        found = {}
        try:
            for table in TABLES:
                found[table] = self._digest(
                    f"SELECT count(), sum(row_hash) FROM {databases.store}.{table} FINAL"
                )
            found["pairs"] = self._digest(
                f"SELECT count(), sum(cityHash64({_PAIR_COLUMNS})) FROM {databases.views}.pairs"
            )
        except Exception as error:
            raise explain(error, f"comparing {databases.store}") from error
        return found

    def _digest(self, sql: str) -> Digest:
        ((rows, total),) = self._client.query(sql).result_rows
        return Digest(int(rows), int(total or 0))

    async def living_fold_version(self) -> int | None:
        """The version of the fold that wrote the living store."""
        return await asyncio.to_thread(written_fold_version, self._client, self._living)

    async def swap(self, fold_version: int) -> None:
        """Exchange table by table (each at once for every reader), then drop what was living."""
        await asyncio.to_thread(self._swap, fold_version)

    def _swap(self, fold_version: int) -> None:
        try:
            for table in TABLES:
                self._client.command(
                    f"EXCHANGE TABLES {self._living.store}.{table} AND {self._next.store}.{table}"
                )
            self._client.command(
                f"INSERT INTO {self._living.store}.schema_state (kind, number) "
                f"VALUES ('fold', {int(fold_version)})"
            )
            drop_databases(self._client, self._next)
        except Exception as error:
            raise explain(error, f"putting {self._next.store} in place") from error

    async def drop(self) -> None:
        """Drop what lies beside."""
        await asyncio.to_thread(drop_databases, self._client, self._next)
