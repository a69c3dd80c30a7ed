"""`StoreBeside` on ClickHouse: two more databases, the same migrations, and EXCHANGE TABLES at the end."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from clickhouse_connect.driver.binding import format_query_value
from clickhouse_connect.driver.client import Client
from msgspec import Struct

from infra.clickhouse.compare import find_differences, read_digests
from infra.clickhouse.connection import LIVE, Databases, explain
from infra.clickhouse.migrate import (
    drop_databases,
    is_migrated,
    mark_swap,
    migrate,
    written_fold_version,
)
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from schemas.errors import Fatal
from streams.ports import TABLES, Difference, Digest, QueryKey

_QUERIES_A_BATCH: Final = 4_000
#: Their keys take some 200 MB of the store's memory while queries are grouped.
_RECORDS_A_HEAP: Final = 2_000_000
#: `next` is a rebuild's own, `live` the living store; a name from `store` on would be another one's storage.
_NAME: Final = re.compile(r"\A(?!next\Z|live\Z|store)[a-z][a-z0-9_]{0,31}\Z")
_STATE: Final = "rebuild_state"


class StoreName(Struct, frozen=True):
    """A store that was kept beside, and what its build noted (JSON)."""

    name: str
    noted: bytes


def beside(living: Databases, name: str = "next") -> Databases:
    """Names of the databases that a rebuild fills: by default those that will take the living ones' place."""
    return Databases(f"{living.store}_{name}", f"{living.views}_{name}", living.cluster)


def databases_named(name: str, living: Databases = LIVE) -> Databases:
    """The databases of a store by name; `live` is the living one. Raises Fatal if it cannot be a name."""
    if name == "live":
        return living
    if not _NAME.match(name):
        raise Fatal(
            f"expected a name of up to 32 characters a-z, 0-9 and _, from a letter on, other than `next`, "
            f"`live` and `store…`, got {name!r}"
        )
    return beside(living, name)


def kept_stores(client: Client, living: Databases = LIVE) -> list[StoreName]:
    """Every store beside the living one that a build has begun, by name. Raises Retryable, Fatal."""
    prefix = f"{living.store}_"
    try:
        rows = client.query(
            "SELECT database FROM system.tables WHERE name = {name:String} "
            "AND startsWith(database, {prefix:String}) ORDER BY database",
            {"name": _STATE, "prefix": prefix},
        ).result_rows
        return [
            StoreName(database.removeprefix(prefix), _read_note(client, database)[1]) for (database,) in rows
        ]
    except Exception as error:
        raise explain(error, "listing the stores beside") from error


class ClickHouseStoreBeside:
    """A store in `<databases>_<name>`. One build of a name at a time."""

    def __init__(self, client: Client, living: Databases = LIVE, name: str = "next") -> None:
        self._client = client
        self._living = living
        self._next = beside(living, name)
        self._sink = ClickHouseRowSink(client, self._next)
        self._lookup = ClickHouseRecordLookup(client, self._next)
        self._notes = 0

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
            self._client.command(
                f"CREATE TABLE {self._next.store}.{_STATE} (number UInt64, state String) "
                "ENGINE = MergeTree ORDER BY number"
            )
        except Exception as error:
            raise explain(error, f"creating {self._next.store}") from error

    async def noted(self) -> bytes | None:
        """What was noted last; None without a store, or if it stands at another migration."""
        return await asyncio.to_thread(self._noted)

    def _noted(self) -> bytes | None:
        try:
            exists = self._client.command(f"EXISTS TABLE {self._next.store}.{_STATE}")
            if not int(str(exists)):
                return None
            self._notes, state = _read_note(self._client, self._next.store)
            # both, or the tables could not be exchanged
            alike = is_migrated(self._client, self._next) and is_migrated(self._client, self._living)
        except Exception as error:
            raise explain(error, f"looking into {self._next.store}") from error
        return state if alike and state else None

    async def note(self, state: bytes) -> None:
        """Keep the state; the newest counts. Raises Retryable, Fatal."""
        self._notes += 1
        await asyncio.to_thread(self._note, self._notes, state)

    def _note(self, number: int, state: bytes) -> None:
        try:
            self._client.command(
                f"INSERT INTO {self._next.store}.{_STATE} (number, state) "
                f"VALUES ({number}, {format_query_value(state.decode())})"
            )
        except Exception as error:
            raise explain(error, f"noting the state of {self._next.store}") from error

    async def unfolded_queries(self) -> AsyncIterator[list[tuple[QueryKey, list[bytes]]]]:
        """Records of queries whose row does not count them all, streamed: memory holds a batch."""
        for heap in await asyncio.to_thread(self._heaps):
            async for batch in self._unfolded_in(heap):
                yield batch

    def _heaps(self) -> list[str]:
        """Conditions that divide the queries: what is asked of each heap fits into the store's memory."""
        try:
            ((count,),) = self._client.query(f"SELECT count() FROM {self._next.store}.events").result_rows
        except Exception as error:
            raise explain(error, "counting the events beside") from error
        heaps = 1 + int(count) // _RECORDS_A_HEAP
        return [f"cityHash64(tenant, query_id) % {heaps} = {heap}" for heap in range(heaps)]

    async def _unfolded_in(self, heap: str) -> AsyncIterator[list[tuple[QueryKey, list[bytes]]]]:
        rows = self._stream_unfolded(heap)
        batch: list[tuple[QueryKey, list[bytes]]] = []
        last: tuple[bytes, bytes] | None = None
        while True:
            block = await asyncio.to_thread(next, rows, None)
            if block is None:
                break
            for tenant, query_id, record in block:
                if (tenant, query_id) != last:
                    # the last query may go on in the next row: give away those before it
                    if len(batch) >= _QUERIES_A_BATCH:
                        yield batch
                        batch = []
                    last = (tenant, query_id)
                    batch.append(((tenant.decode(), query_id.decode()), []))
                batch[-1][1].append(record)
        if batch:
            yield batch

    def _stream_unfolded(self, heap: str) -> Iterator[list[Any]]:
        store = self._next.store
        unfolded = (
            "SELECT tenant, query_id FROM ("
            f"SELECT tenant, query_id, 1 AS records, toUInt64(0) AS counted FROM {store}.events FINAL "
            f"WHERE {heap} UNION ALL "
            f"SELECT tenant, query_id, 0, record_count FROM {store}.episodes WHERE {heap}"
            ") GROUP BY tenant, query_id HAVING sum(records) != max(counted)"
        )
        try:
            with self._client.query_row_block_stream(
                f"SELECT tenant, query_id, record FROM {store}.events "
                f"WHERE {heap} AND (tenant, query_id) IN ({unfolded}) ORDER BY tenant, query_id",
                query_formats={"String": "bytes"},
                settings={"max_block_size": 8192, "optimize_read_in_order": 1},
            ) as stream:
                yield from stream
        except Exception as error:
            raise explain(error, "reading the events beside") from error

    async def digests(self) -> tuple[dict[str, Digest], dict[str, Digest]]:
        """Digests of the living store and of the one beside. Raises Retryable, Fatal."""
        return await asyncio.to_thread(
            lambda: (read_digests(self._client, self._living), read_digests(self._client, self._next))
        )

    async def differences(self, table: str, limit: int) -> list[Difference]:
        """The first rows that living store and the other do not share. Raises Retryable, Fatal."""
        return await asyncio.to_thread(find_differences, self._client, self._living, self._next, table, limit)

    async def living_fold_version(self) -> int | None:
        """The version of the fold that wrote the living store."""
        return await asyncio.to_thread(written_fold_version, self._client, self._living)

    async def swap(self, fold_version: int) -> None:
        """Exchange table by table (each at once for every reader), then drop what was living."""
        await asyncio.to_thread(self._swap, fold_version)

    def _swap(self, fold_version: int) -> None:
        try:
            fresh = self._tables_to_swap_in()
            mark_swap(self._client, self._living, under_way=True)
            now_living = self._uuids(self._living)
            for table in TABLES:
                if now_living[table] != fresh[table]:
                    self._client.command(
                        f"EXCHANGE TABLES {self._living.stored(table)} AND {self._next.stored(table)}"
                        f"{self._living.on_cluster}"
                    )
            self._client.command(
                f"INSERT INTO {self._living.store}.schema_state (kind, number) "
                f"VALUES ('fold', {int(fold_version)})"
            )
            mark_swap(self._client, self._living, under_way=False)
            drop_databases(self._client, self._next)
        except Exception as error:
            raise explain(error, f"putting {self._next.store} in place") from error

    def _tables_to_swap_in(self) -> dict[str, str]:
        """Table → identity of the new one, kept before the first exchange: afterwards names say nothing."""
        kept = f"{self._next.store}.swapped_in"
        self._client.command(
            f"CREATE TABLE IF NOT EXISTS {kept} (name String, uuid String) ENGINE = MergeTree ORDER BY name"
        )
        rows = self._client.query(f"SELECT name, uuid FROM {kept}").result_rows
        if not rows:
            values = ", ".join(f"('{name}', '{uuid}')" for name, uuid in self._uuids(self._next).items())
            self._client.command(f"INSERT INTO {kept} VALUES {values}")
            rows = self._client.query(f"SELECT name, uuid FROM {kept}").result_rows
        return {str(name): str(uuid) for name, uuid in rows}

    def _uuids(self, databases: Databases) -> dict[str, str]:
        rows = self._client.query(
            "SELECT name, toString(uuid) FROM system.tables WHERE database = {database:String}",
            {"database": databases.store},
        ).result_rows
        names = {databases.stored(table).partition(".")[2]: table for table in TABLES}
        return {names[str(name)]: str(uuid) for name, uuid in rows if str(name) in names}

    async def drop(self) -> None:
        """Drop what lies beside."""
        await asyncio.to_thread(drop_databases, self._client, self._next)


def _read_note(client: Client, store: str) -> tuple[int, bytes]:
    rows = client.query(
        f"SELECT number, state FROM {store}.{_STATE} ORDER BY number DESC LIMIT 1"
    ).result_rows
    return (int(rows[0][0]), str(rows[0][1]).encode()) if rows else (0, b"")
