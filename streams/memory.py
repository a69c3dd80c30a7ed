"""The streams' ports in memory: real implementations for tests and for folding without services.

The sink keeps rows as the store would after a merge: one row a key, the highest version wins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.errors import Reason, Rejectable
from schemas.waiting import NAMED, REFERRED
from streams.ports import TABLES, Block, Message, Offsets, QueryKey, ReferenceKey, Table

#: Table → its sorting key; equal keys are one row.
_KEYS: Final[dict[Table, tuple[str, ...]]] = {
    "events": ("tenant", "query_id", "source", "event_id", "received_time", "content_hash"),
    "episodes": ("tenant", "query_id"),
    "contributions": ("tenant", "unit", "query_id"),
    "documents": ("tenant", "document_id", "source", "event_id", "received_time", "content_hash"),
    "rejected": ("tenant", "entry_id", "source", "rejection_id", "received_time", "content_hash"),
    "lifecycle": ("tenant", "partition", "offset"),
    "waiting": ("tenant", "type", "reference", "source", "event_id", "received_time", "content_hash"),
}
_VERSIONED: Final = ("episodes", "contributions")

Row = dict[str, Any]


class MemoryStore:
    """`RowSink`, `RecordLookup` and `WaitingLookup` over dicts; of values it checks 32-bit ranges only."""

    def __init__(self) -> None:
        self._rows: dict[Table, dict[tuple[Any, ...], Row]] = {table: {} for table in _KEYS}

    def prepare(self, table: Table, columns: Mapping[str, Any]) -> Block:
        """Rows of these columns. Raises Rejectable: columns missing, uneven, or a number without room."""
        expected = TABLES[table].keys()
        if columns.keys() != expected:
            wrong = sorted(columns.keys() ^ expected)
            raise Rejectable(Reason.STORAGE_REFUSED, f"{table}: missing or unknown columns {wrong}")
        plain = [_plain(column) for column in columns.values()]
        for name, column in zip(columns, plain, strict=True):
            _check(table, name, column)
        try:
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*plain, strict=True)]
        except ValueError as error:
            raise Rejectable(Reason.STORAGE_REFUSED, f"{table}: columns of different lengths") from error
        return Block(table, len(rows), rows)

    async def insert(self, block: Block) -> None:
        """Keep the rows."""
        stored = self._rows[block.table]
        for row in block.payload:
            key = tuple(row[name] for name in _KEYS[block.table])
            other = stored.get(key)
            if other is None or _replaces(block.table, other, row):
                stored[key] = row

    def rows(self, table: Table) -> list[Row]:
        """The rows of a table, by key."""
        return [row for _, row in sorted(self._rows[table].items(), key=lambda item: item[0])]

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        """Stored records of these queries."""
        wanted = set(queries)
        found: dict[QueryKey, list[bytes]] = {}
        for row in self._rows["events"].values():
            key = (row["tenant"], row["query_id"])
            if key in wanted:
                found.setdefault(key, []).append(_bytes(row["record"]))
        return found

    async def lifecycle_before(self, tenant: str, partition: int, offset: int) -> list[bytes]:
        """Stored lifecycle records before `offset`."""
        return [
            _bytes(row["record"])
            for row in self.rows("lifecycle")
            if row["tenant"] == tenant and row["partition"] == partition and row["offset"] < offset
        ]

    async def names_of(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, bytes]:
        """The first stored name of each of these references."""
        first: dict[ReferenceKey, Row] = {}
        for key, row in self._waiting(NAMED):
            if key in references and row["offset"] < first.setdefault(key, row)["offset"]:
                first[key] = row
        return {key: _bytes(row["record"]) for key, row in first.items()}

    async def referred_to(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, list[bytes]]:
        """Stored feedback on these references."""
        found: dict[ReferenceKey, list[bytes]] = {}
        for key, row in self._waiting(REFERRED):
            if key in references:
                found.setdefault(key, []).append(_bytes(row["record"]))
        return found

    async def waiting_references(self, limit: int) -> set[ReferenceKey]:
        """References with feedback and without a name."""
        named = {key for key, _ in self._waiting(NAMED)}
        waiting = {key for key, _ in self._waiting(REFERRED)} - named
        return set(sorted(waiting)[:limit])

    def _waiting(self, event_type: str) -> Iterator[tuple[ReferenceKey, Row]]:
        for row in self._rows["waiting"].values():
            if row["type"] == event_type:
                yield (row["tenant"], row["reference"]), row


class MemoryLog:
    """`LogReader` and `RejectedLog` over lists: one list a partition, offsets from 0."""

    def __init__(self) -> None:
        self._partitions: dict[tuple[str, int], list[Message]] = {}
        self.rejections: list[Event] = []

    def put(self, topic: str, value: bytes, *, key: bytes = b"", partition: int = 0) -> Message:
        """Append a record and return it as a reader sees it."""
        records = self._partitions.setdefault((topic, partition), [])
        message = Message(topic, partition, len(records), key, value, 0)
        records.append(message)
        return message

    async def append(self, events: Sequence[Event]) -> None:
        """Append rejections; they are in `rejections`, too."""
        for event in events:
            self.rejections.append(event)
            self.put("rejected", encode_event(event))

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Partition → number of its records."""
        return {p: len(records) for (name, p), records in self._partitions.items() if name == topic}

    async def read(
        self, topic: str, until: Offsets, since: Offsets | None = None
    ) -> AsyncIterator[list[Message]]:
        """One batch a partition."""
        for partition, end in sorted(until.items()):
            records = self._partitions.get((topic, partition), [])[(since or {}).get(partition, 0) : end]
            if records:
                yield records


def _replaces(table: Table, other: Row, row: Row) -> bool:
    """Of two rows of one key, does the second stay?"""
    if table == "waiting":  # where a name stands first decides between names
        return bool(row["offset"] <= other["offset"])
    return table not in _VERSIONED or bool(other["record_count"] <= row["record_count"])


def _plain(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _check(table: Table, name: str, column: list[Any]) -> None:
    declared = TABLES[table][name]
    if "UInt32" not in declared:
        return
    for value in column:
        for number in value if isinstance(value, list) else (value,):
            if number is not None and not 0 <= number < 1 << 32:
                raise Rejectable(
                    Reason.STORAGE_REFUSED, f"{table}.{name}: expected a {declared}, got {number!r}"
                )
