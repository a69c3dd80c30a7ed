"""`StoreBeside` in memory: a real implementation for tests and for rebuilding without services."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any, Final

import msgspec

from streams.memory import MemoryStore, Row
from streams.ports import TABLES, Difference, Digest, QueryKey, Table
from streams.tables import POSITION

_ENCODER: Final = msgspec.msgpack.Encoder(order="deterministic")
_QUERIES_A_BATCH: Final = 2
_TABLES: Final[tuple[Table, ...]] = tuple(TABLES)  # type: ignore[arg-type]


class MemoryStoreBeside:
    """Beside `living`; what was noted and built survives the object that built it, as it does in a store."""

    def __init__(self, living: MemoryStore) -> None:
        self.living = living
        self.living_fold: int | None = None
        self._next = MemoryStore()
        self._noted: bytes | None = None

    @property
    def sink(self) -> MemoryStore:
        """Writes beside."""
        return self._next

    @property
    def lookup(self) -> MemoryStore:
        """Reads beside."""
        return self._next

    async def create(self) -> None:
        """Make it, empty."""
        await self.drop()

    async def noted(self) -> bytes | None:
        """What was noted last."""
        return self._noted

    async def note(self, state: bytes) -> None:
        """Keep the state."""
        self._noted = state

    async def unfolded_queries(self) -> AsyncIterator[list[tuple[QueryKey, list[bytes]]]]:
        """Queries whose row does not count all of their records, two a batch."""
        found: dict[QueryKey, list[bytes]] = {}
        for row in self._next.rows("events"):
            found.setdefault((row["tenant"], row["query_id"]), []).append(row["record"])
        counted = {
            (row["tenant"], row["query_id"]): row["record_count"] for row in self._next.rows("episodes")
        }
        queries = [(key, values) for key, values in found.items() if counted.get(key) != len(values)]
        for start in range(0, len(queries), _QUERIES_A_BATCH):
            yield queries[start : start + _QUERIES_A_BATCH]

    async def digests(self) -> tuple[dict[str, Digest], dict[str, Digest]]:
        """Digests of the living store and of the one beside, over the tables (there are no views)."""
        return digest(self.living), digest(self._next)

    async def differences(self, table: str, limit: int) -> list[Difference]:
        """The first rows that the stores do not share, by the row's first columns."""
        living, fresh = (
            {_content(row): row for row in _visible(s, table)} for s in (self.living, self._next)
        )
        found = [Difference(table, _key(living[c]), "first") for c in living.keys() - fresh.keys()]
        found += [Difference(table, _key(fresh[c]), "second") for c in fresh.keys() - living.keys()]
        return sorted(found, key=lambda one: tuple(one.key.values()))[:limit]

    async def living_fold_version(self) -> int | None:
        """The version of the fold that wrote the living store."""
        return self.living_fold

    async def swap(self, fold_version: int) -> None:
        """The one beside is the living one, in the same object."""
        self.living.__dict__.update(self._next.__dict__)
        self.living_fold = fold_version
        await self.drop()

    async def drop(self) -> None:
        """Nothing lies beside."""
        self._next, self._noted = MemoryStore(), None


def digest(store: MemoryStore) -> dict[str, Digest]:
    """Table → rows and wrapping sum of the hashes of their contents, without position."""
    found = {}
    for table in _TABLES:
        hashes = [
            int.from_bytes(hashlib.blake2b(_content(row), digest_size=8).digest(), "little")
            for row in _visible(store, table)
        ]
        found[str(table)] = Digest(len(hashes), sum(hashes) & (1 << 64) - 1)
    return found


def _visible(store: MemoryStore, table: str) -> list[Row]:
    return [row for row in store.rows(table) if not row.get("deleted")]  # type: ignore[arg-type]


def _content(row: Row) -> bytes:
    return _ENCODER.encode({name: value for name, value in row.items() if name not in POSITION})


def _key(row: dict[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in row.items() if name not in POSITION and name != "data"}
