"""What the streams need from outside. Adapters: `streams.memory`, `infra/clickhouse`, `infra/kafka`.

Errors are the tree of `schemas.errors`: Retryable (the same call may pass later), Rejectable
(`storage_refused`: these rows never will), Fatal (the store is not what this code expects).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Literal, NamedTuple, Protocol

from msgspec import Struct

from schemas.envelope import Event
from streams import arrays, tables

#: Adapters import a room through its ports only: table → column → type is part of the port.
TABLES: Final = tables.TABLES
#: What a column of arrays is.
Arrays = arrays.Arrays
Table = Literal["events", "episodes", "contributions", "documents", "rejected", "lifecycle", "waiting"]
#: Tenant and query_id.
QueryKey = tuple[str, str]
#: Tenant and reference (`schemas.waiting`).
ReferenceKey = tuple[str, str]
#: Partition → next offset to read.
Offsets = Mapping[int, int]


class Message(NamedTuple):
    """A record of the log as it was read; nothing is decoded yet."""

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    #: When Kafka got it; milliseconds since 1970. Only rejections of unreadable bytes are dated by it.
    timestamp_ms: int


class Block(Struct, frozen=True):
    """Rows that a sink has encoded. `payload` is the sink's own."""

    table: Table
    rows: int
    payload: Any


class RowSink(Protocol):
    """The write side of the store.

    Guarantees: inserting a block again changes nothing that a promised view shows, whatever was inserted in
    between; a block is whole or, after an error, unknown (insert it again). After `insert` returns, the rows
    survive kill -9 of writer and store, and every later query sees them. Not for concurrent use.
    """

    def prepare(self, table: Table, columns: Mapping[str, Any]) -> Block:
        """Encode columns of one length (see `streams.columns`). No I/O.

        Raises Rejectable(storage_refused) if a value does not fit its column.
        """
        ...

    async def insert(self, block: Block) -> None:
        """Store the rows. Raises Retryable, Rejectable(storage_refused), Fatal."""
        ...


class RecordLookup(Protocol):
    """Reads back what was stored. Sees every row whose `insert` returned."""

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        """The stored records (bytes as on the topic) of these queries, in any order, repeats among them.

        A query without a record is not in the answer. One statement a call. Raises Retryable, Fatal.
        """
        ...

    async def lifecycle_before(self, tenant: str, partition: int, offset: int) -> list[bytes]:
        """The tenant's stored lifecycle records of this partition before `offset`, by offset."""
        ...


class WaitingLookup(Protocol):
    """Reads table `waiting` back. Sees every row whose `insert` returned. Raises Retryable, Fatal."""

    async def names_of(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, bytes]:
        """Of each reference the stored `query.named` that stands first in the log, as on the topic.

        A reference without a name is not in the answer. One statement a call.
        """
        ...

    async def referred_to(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, list[bytes]]:
        """The stored `feedback.referred` of these references, as on the topic, repeats among them."""
        ...

    async def waiting_references(self, limit: int) -> set[ReferenceKey]:
        """References with feedback and without a name: all, or some `limit` of them if there are more."""
        ...


class InteractionsLog(Protocol):
    """The append side of topic `interactions`, for feedback whose query has become known."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return when all are durable (`acks=all`). Raises Retryable: append them all again, it is safe."""
        ...


class RejectedLog(Protocol):
    """The append side of topic `rejected`."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return when all are durable (`acks=all`). Raises Retryable: append them all again, it is safe."""
        ...


class LogReader(Protocol):
    """Reads topics from their beginning, outside any consumer group; commits nothing."""

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Partition → offset after the last record that is there now."""
        ...

    def read(self, topic: str, until: Offsets, since: Offsets | None = None) -> AsyncIterator[list[Message]]:
        """All records from `since` (by partition; by default 0) and before `until`, in batches.

        A partition after another, in order within it. Raises Fatal if the log no longer begins where a
        partition is to be read from: it has forgotten something.
        """
        ...


class Digest(Struct, frozen=True):
    """Rows of a table and the wrapping sum of their hashes: equal for equal contents in any order."""

    rows: int
    hash: int


class Difference(Struct, frozen=True):
    """A row that two stores do not share.

    `key`: column → value of the sorting key, as text. `columns`: what differs, if both have the key; else
    `only_in` names the one that has it.
    """

    table: str
    key: dict[str, str]
    only_in: Literal["first", "second", ""] = ""
    columns: tuple[str, ...] = ()


class StoreBeside(Protocol):
    """A second store beside the living one, filled by a rebuild and then put in its place, or kept."""

    @property
    def sink(self) -> RowSink:
        """Writes beside. `prepare` may be called while an `insert` runs."""
        ...

    @property
    def lookup(self) -> RecordLookup:
        """Reads beside."""
        ...

    async def create(self) -> None:
        """Make it, empty; what an earlier rebuild left there is dropped."""
        ...

    async def noted(self) -> bytes | None:
        """What was noted last; None if nothing is there, or tables of another layout are."""
        ...

    async def note(self, state: bytes) -> None:
        """Keep this with the store: what a build that is killed needs in order to go on."""
        ...

    def unfolded_queries(self) -> AsyncIterator[list[tuple[QueryKey, list[bytes]]]]:
        """The queries whose row beside does not count all of their records beside, with these records.

        In batches; a query is whole in one batch. Its row may be written while this goes on.
        """
        ...

    async def digests(self) -> tuple[dict[str, Digest], dict[str, Digest]]:
        """Table or view → digest: of the living store, and of the one beside. No position, no write time."""
        ...

    async def differences(self, table: str, limit: int) -> list[Difference]:
        """The first rows by key, `limit` at most, that living store (`first`) and the other do not share."""
        ...

    async def living_fold_version(self) -> int | None:
        """The version of the fold that wrote the living store; None if nothing did."""
        ...

    async def swap(self, fold_version: int) -> None:
        """Exchange the tables, note the fold's version, drop what was living before.

        After an error or a kill, call it again: it goes on where it stopped. Until it is done no worker
        claims the store.
        """
        ...

    async def drop(self) -> None:
        """Drop what lies beside."""
        ...


class PausableWorker(Protocol):
    """The stream worker, as a rebuild sees it."""

    async def committed(self) -> dict[str, dict[int, int]]:
        """Topic → partition → next offset that it has committed. It may go on meanwhile. Raises Retryable."""
        ...

    def paused(self) -> AbstractAsyncContextManager[dict[str, dict[int, int]]]:
        """It writes nothing inside the block; gives what it had committed. It goes on after the block.

        Raises Fatal if it does not stop.
        """
        ...
