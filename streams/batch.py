"""A batch of one topic, from bytes to rows. Knows no Faust and no Kafka; results do not depend on batch cuts.

interactions   decode → known records → union → fold each touched query once → events, contributions, episodes
documents, rejected, lifecycle, waiting   decode → rows

A record that cannot be decoded, folded or stored ends in `rejected`, and the others of its batch go on.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from msgspec import Struct

from schemas.codec import decode_event, decode_payload
from schemas.envelope import Event
from schemas.errors import RatchetError, Reason, Rejectable
from schemas.lifecycle_state import apply, apply_step
from schemas.rejections import EventRejected
from schemas.tenant_state import LifecycleState
from schemas.topics import DOCUMENTS, INTERACTIONS, LIFECYCLE, REJECTED, WAITING
from streams.columns import document_columns, lifecycle_columns, rejected_columns, waiting_columns
from streams.known import KnownRecords
from streams.persistence import persist
from streams.ports import Block, Message, RecordLookup, RejectedLog, RowSink, Table
from streams.queries import QueryFolder
from streams.records import Arrival, Record
from streams.rejecting import read_messages, reject_arrival
from streams.settings import StreamSettings
from streams.stages import Stages
from streams.waiting import ReferenceResolver
from streams.weights import APPEND_BYTES, INSERT_BYTES, cut_by_bytes


class BatchReport(Struct, frozen=True, kw_only=True):
    """What became of one batch. `seconds`: stage → time spent in it."""

    topic: str
    messages: int
    #: Records that were not stored before.
    new_records: int
    #: Queries whose rows were folded and written.
    queries: int
    #: Queries whose records had to be looked up.
    lookups: int
    #: Reason → entries sent to `rejected`.
    rejected: dict[str, int]
    #: Received time of the oldest record of the batch, seconds since 1970; None if nothing was readable.
    oldest_received_s: float | None
    seconds: dict[str, float]


class BatchProcessor:
    """Turns batches into rows. One batch of a topic at a time; topics may run beside each other.

    When `process` returns, everything of the batch is stored or in `rejected`, durably, and its offsets may
    be committed. It raises Fatal only: the process must end without committing.
    """

    def __init__(
        self,
        sink: RowSink,
        lookup: RecordLookup,
        rejected: RejectedLog,
        settings: StreamSettings,
        *,
        resolver: ReferenceResolver | None = None,
        insert_bytes: int = INSERT_BYTES,
        append_bytes: int = APPEND_BYTES,
    ) -> None:
        """`insert_bytes`: records of one insert at most; `append_bytes`: entries of one append.

        Without a `resolver` (a rebuild) the records of `waiting` are stored, and nothing is passed on.
        """
        self._sink = sink
        self._lookup = lookup
        self._rejected = rejected
        self._retry_for_s = settings.retry_for_s
        self._insert_bytes = insert_bytes
        self._append_bytes = append_bytes
        self._resolver = resolver
        self._known = KnownRecords(max_bytes=settings.known_bytes)
        self._folder = QueryFolder(
            sink, lookup, self._known, retry_for_s=settings.retry_for_s, insert_bytes=insert_bytes
        )
        #: (tenant, partition) → (next offset, state before it)
        self._lifecycles: dict[tuple[str, int], tuple[int, LifecycleState]] = {}
        self._topics: Final[dict[str, Callable[..., Awaitable[_Done]]]] = {
            INTERACTIONS: self._interactions,
            DOCUMENTS: self._documents,
            REJECTED: self._rejections,
            LIFECYCLE: self._lifecycle,
            WAITING: self._waiting,
        }

    def forget(self) -> None:
        """Drop all that is remembered: partitions were assigned or revoked, others may have written."""
        self._known.forget()
        self._lifecycles.clear()
        if self._resolver is not None:
            self._resolver.forget()

    async def process(self, topic: str, messages: Sequence[Message]) -> BatchReport:
        """Store one batch. Processing it again, whole or in other cuts, changes no row."""
        stages = Stages(time.perf_counter)
        with stages.of("decode"):
            read, rejections = read_messages(messages)
        done = await self._topics[topic](read, stages)
        rejections += done.rejections
        if topic == REJECTED:
            # an entry about an entry would be refused for the same reason, for ever; the log keeps this one
            rejections = []
        if rejections:
            with stages.of("reject"):
                await self._append(rejections)
        received = [arrival.event.recordedtime.timestamp() for arrival, _ in read]
        return BatchReport(
            topic=topic,
            messages=len(messages),
            new_records=done.new_records,
            queries=done.queries,
            lookups=done.lookups,
            rejected=_count_reasons(rejections),
            oldest_received_s=min(received, default=None),
            seconds=stages.seconds,
        )

    async def _append(self, rejections: Sequence[Event]) -> None:
        for part in cut_by_bytes(rejections, lambda event: len(event.data), self._append_bytes):
            await persist(
                functools.partial(self._rejected.append, part),
                doing="appending rejections",
                retry_for_s=self._retry_for_s,
            )

    async def _interactions(self, read: Sequence[tuple[Arrival, Record]], stages: Stages) -> _Done:
        folded = await self._folder.process(read, stages)
        return _Done(folded.rejections, folded.new_records, folded.queries, folded.lookups)

    async def _documents(self, read: Sequence[tuple[Arrival, Record]], stages: Stages) -> _Done:
        rows = [(arrival, record.payload) for arrival, record in read]
        return await self._insert("documents", document_columns, rows, stages)

    async def _waiting(self, read: Sequence[tuple[Arrival, Record]], stages: Stages) -> _Done:
        if self._resolver is not None:
            with stages.of("resolve"):
                await self._resolver.pass_on(read)
        rows = [(arrival, record.payload) for arrival, record in read]
        return await self._insert("waiting", waiting_columns, rows, stages)

    async def _rejections(self, read: Sequence[tuple[Arrival, Record]], stages: Stages) -> _Done:
        rows = [
            (arrival, record.payload) for arrival, record in read if type(record.payload) is EventRejected
        ]
        return await self._insert("rejected", rejected_columns, rows, stages)

    async def _lifecycle(self, read: Sequence[tuple[Arrival, Record]], stages: Stages) -> _Done:
        rows: list[tuple[Arrival, str]] = []
        for arrival, record in read:
            place = (arrival.event.tenant, arrival.partition)
            with stages.of("lookup"):
                state = await self._state_before(*place, arrival.offset)
            state, outcome = apply_step(state, arrival.event, record.payload)
            self._lifecycles[place] = (arrival.offset + 1, state)
            rows.append((arrival, "" if outcome.accepted else outcome.reason))

        def columns(some: Sequence[tuple[Arrival, str]]) -> Any:
            return lifecycle_columns([a for a, _ in some], [why for _, why in some])

        return await self._insert("lifecycle", columns, rows, stages)

    async def _state_before(self, tenant: str, partition: int, offset: int) -> LifecycleState:
        """The tenant's state before this offset: remembered, else folded again from what is stored."""
        position, state = self._lifecycles.get((tenant, partition), (None, LifecycleState()))
        if position is not None and position <= offset:
            return state  # offsets between belong to other tenants
        values = await persist(
            lambda: self._lookup.lifecycle_before(tenant, partition, offset),
            doing="reading the lifecycle back",
            retry_for_s=self._retry_for_s,
        )
        return fold_lifecycle(values)

    def _encode(
        self, table: Table, columns: Callable[[Any], Any], rows: Sequence[tuple[Arrival, Any]]
    ) -> Block:
        """The rows as a block. Raises Rejectable: a value does not fit its column, whoever notices."""
        try:
            return self._sink.prepare(table, columns(rows))
        except RatchetError:
            raise
        except Exception as error:
            raise Rejectable(Reason.STORAGE_REFUSED, f"a value does not fit its column: {error!r}") from error

    async def _insert(
        self, table: Table, columns: Callable[[Any], Any], rows: Sequence[tuple[Arrival, Any]], stages: Stages
    ) -> _Done:
        """Insert rows of one record each, in blocks that the store takes."""
        rejections: list[Event] = []
        new_records = 0
        for part in cut_by_bytes(rows, lambda row: len(row[0].value), self._insert_bytes):
            done = await self._insert_block(table, columns, part, stages)
            rejections += done.rejections
            new_records += done.new_records
        return _Done(rejections, new_records)

    async def _insert_block(
        self, table: Table, columns: Callable[[Any], Any], rows: Sequence[tuple[Arrival, Any]], stages: Stages
    ) -> _Done:
        """Insert rows as one block; what the store refuses for good is found by halving."""
        try:
            with stages.of("encode"):
                block = self._encode(table, columns, rows)
            with stages.of("write"):
                await persist(
                    lambda: self._sink.insert(block),
                    doing=f"writing {table}",
                    retry_for_s=self._retry_for_s,
                )
            return _Done([], len(rows))
        except Rejectable as error:
            refused = error
        if len(rows) == 1:
            return _Done([reject_arrival(rows[0][0], refused)], 0)
        half = len(rows) // 2
        left = await self._insert_block(table, columns, rows[:half], stages)
        right = await self._insert_block(table, columns, rows[half:], stages)
        return _Done(left.rejections + right.rejections, left.new_records + right.new_records)


class _Done(Struct, frozen=True):
    rejections: list[Event]
    new_records: int
    queries: int = 0
    lookups: int = 0


def fold_lifecycle(values: Sequence[bytes]) -> LifecycleState:
    """The state after these records of one tenant, in the order of the log; the unreadable have no effect."""
    state = LifecycleState()
    for value in values:
        try:
            state, _ = apply(state, decode_event(value))
        except Rejectable:
            continue
    return state


def _count_reasons(rejections: Sequence[Event]) -> dict[str, int]:
    return dict(Counter(decode_payload(event).reason for event in rejections))  # type: ignore[attr-defined]
