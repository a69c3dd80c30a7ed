"""New records of queries → their rows: union with what is stored, one fold a query, three inserts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from msgspec import Struct

from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import RatchetError, Reason, Rejectable
from schemas.rejections import rejection_entry_id
from streams.columns import Columns, contribution_columns, episode_columns, event_columns
from streams.fold import fold_episode
from streams.known import KnownRecords, RecordValues
from streams.persistence import persist
from streams.ports import Block, QueryKey, RecordLookup, RowSink, Table
from streams.records import Arrival, Record, RecordKey, collect_records, decode_record
from streams.rejecting import reject_arrival
from streams.stages import Stages
from streams.weights import EPISODE_BYTES, EPISODE_RECORDS, INSERT_BYTES, cut_by_bytes

log = logging.getLogger(__name__)

#: Queries that are folded and encoded while those before them are written; one insert a table.
PART_QUERIES: Final = 1_000
#: So many are folded before others in the loop have their turn: the write beside has steps of its own.
_FOLDED_AT_ONCE: Final = 100


class FoldedQueries(Struct, frozen=True):
    """What became of the queries of a batch."""

    rejections: list[Event]
    new_records: int
    queries: int
    lookups: int


class _Touched(Struct):
    """A query of the batch: what is stored of it, and what came."""

    query: QueryKey
    stored: list[Record]
    values: RecordValues
    new: list[tuple[Arrival, Record]]

    def size_bytes(self) -> int:
        """Of its records: an episode holds what all of them say."""
        return sum(map(len, self.values)) + sum(len(arrival.value) for arrival, _ in self.new)

    def folded(self) -> Episode | Rejectable:
        """The episode of the union, or why the fold raises on it."""
        try:
            return fold_episode([*self.stored, *(record for _, record in self.new)])
        except Exception as error:
            return Rejectable(
                Reason.FOLD_FAILED,
                f"the fold of query {self.query[0]}/{self.query[1]} raised {error!r}; "
                "this entry can be replayed once the fold is mended",
            )


class _Prepared(Struct):
    """Queries that are folded and encoded: what is left is to write them."""

    touched: list[_Touched]
    blocks: list[Block]
    #: Why the store will never take their rows; found while encoding.
    refused: Rejectable | None = None
    #: Queries on which the fold raised.
    failed: list[tuple[_Touched, Rejectable]] = []


class QueryFolder:
    """Writes the rows of touched queries: events, then contributions, then episodes.

    So a reader who sees a query's row can find its events, and a batch that died between two inserts is
    mended when it is read again: every touched query is folded and written, also when its records are known.
    A large batch goes in parts that share no query: one is written while the next is folded and encoded.
    """

    def __init__(
        self,
        sink: RowSink,
        lookup: RecordLookup,
        known: KnownRecords,
        *,
        retry_for_s: float,
        insert_bytes: int = INSERT_BYTES,
    ) -> None:
        """`insert_bytes`: records, stored and new, of the queries that are written at once."""
        self._sink = sink
        self._lookup = lookup
        self._known = known
        self._retry_for_s: Final = retry_for_s
        self._insert_bytes: Final = insert_bytes

    async def process(self, read: Sequence[tuple[Arrival, Record]], stages: Stages) -> FoldedQueries:
        """Fold and store these records. Raises Fatal."""
        arrived: dict[QueryKey, list[tuple[Arrival, Record]]] = {}
        for item in read:
            event = item[0].event
            arrived.setdefault((event.tenant, event.subject or ""), []).append(item)
        with stages.of("lookup"):
            stored, lookups = await self._stored(list(arrived))
        touched = []
        rejections: list[Event] = []
        for query, items in arrived.items():
            values = stored[query]
            known = _decode_stored(query, values)
            new: dict[RecordKey, tuple[Arrival, Record]] = {}
            size_bytes = sum(map(len, values))
            for item in items:
                if item[1].key in known or item[1].key in new:
                    continue
                size_bytes += len(item[0].value)
                if len(known) + len(new) < EPISODE_RECORDS and size_bytes <= EPISODE_BYTES:
                    new[item[1].key] = item
                else:  # in the order of the log: the same ones, however the batch was cut
                    size_bytes -= len(item[0].value)
                    rejections.append(_refuse_as_full(query, item[0]))
            touched.append(_Touched(query, list(known.values()), values, list(new.values())))
        rejections += await self._settle_parts(touched, stages)
        return FoldedQueries(rejections, sum(len(t.new) for t in touched), len(touched), lookups)

    async def _settle_parts(self, touched: Sequence[_Touched], stages: Stages) -> list[Event]:
        """`_settle` for all of them in parts; one is prepared while the one before it is written."""
        rejections: list[Event] = []
        writing: asyncio.Task[list[Event]] | None = None
        try:
            for start in range(0, len(touched), PART_QUERIES):
                several = touched[start : start + PART_QUERIES]
                for part in cut_by_bytes(several, _Touched.size_bytes, self._insert_bytes):
                    prepared = await self._prepare(part, stages)
                    if writing is not None:
                        rejections += await writing
                    writing = asyncio.create_task(self._store(prepared, stages), name="write-part")
            if writing is not None:
                rejections += await writing
        finally:
            if writing is not None and not writing.done():
                writing.cancel()
                await asyncio.gather(writing, return_exceptions=True)
        return rejections

    async def _stored(self, queries: Sequence[QueryKey]) -> tuple[dict[QueryKey, RecordValues], int]:
        sets: dict[QueryKey, RecordValues] = {}
        missing = []
        for query in queries:
            known = self._known.get(query)
            if known is None:
                missing.append(query)
            else:
                sets[query] = known
        if missing:
            values = await persist(
                lambda: self._lookup.records_of(missing),
                doing="looking records up",
                retry_for_s=self._retry_for_s,
            )
            for query in missing:
                sets[query] = tuple(sorted(set(values.get(query, ()))))
        return sets, len(missing)

    async def _settle(self, touched: Sequence[_Touched], stages: Stages) -> list[Event]:
        """Write these queries; return an entry for each record that can never be folded or stored."""
        return await self._store(await self._prepare(touched, stages), stages)

    async def _prepare(self, touched: Sequence[_Touched], stages: Stages) -> _Prepared:
        """Fold and encode. Writes nothing and raises nothing for any records."""
        passed: list[_Touched] = []
        episodes: list[Episode] = []
        failed: list[tuple[_Touched, Rejectable]] = []
        for start in range(0, len(touched), _FOLDED_AT_ONCE):
            await asyncio.sleep(0)
            with stages.of("fold"):
                for item in touched[start : start + _FOLDED_AT_ONCE]:
                    episode = item.folded()
                    if isinstance(episode, Rejectable):
                        failed.append((item, episode))
                    else:
                        passed.append(item)
                        episodes.append(episode)
        prepared = _Prepared(passed, [], None, failed)
        if passed:
            arrivals = [arrival for item in passed for arrival, _ in item.new]
            encoders: tuple[tuple[Table, Callable[[], Columns]], ...] = (
                ("events", lambda: event_columns(arrivals)),
                ("contributions", lambda: contribution_columns(episodes)),
                ("episodes", lambda: episode_columns(episodes)),
            )
            for table, columns in encoders:
                await asyncio.sleep(0)
                try:
                    with stages.of("encode"):
                        prepared.blocks.append(self._encode(table, columns))
                except Rejectable as error:
                    prepared.refused = error
                    break
        return prepared

    def _encode(self, table: Table, columns: Callable[[], Columns]) -> Block:
        """Raises Rejectable: a value does not fit its column, whoever notices."""
        try:
            return self._sink.prepare(table, columns())
        except RatchetError:
            raise
        except Exception as error:
            raise Rejectable(Reason.STORAGE_REFUSED, f"a value does not fit its column: {error!r}") from error

    async def _store(self, prepared: _Prepared, stages: Stages) -> list[Event]:
        """Write what was prepared, and find what cannot pass; an entry for each record that never will."""
        rejections: list[Event] = []
        for item, why in prepared.failed:
            rejections += await self._divide([item], why, stages)
        if not prepared.touched:
            return rejections
        refused = prepared.refused or await self._write(prepared.blocks, stages)
        if refused is not None:
            return rejections + await self._divide(prepared.touched, refused, stages)
        for item in prepared.touched:
            self._known.put(item.query, item.values + tuple(arrival.value for arrival, _ in item.new))
        return rejections

    async def _write(self, blocks: Sequence[Block], stages: Stages) -> Rejectable | None:
        """Insert, in this order; None, or why the store will never take them all."""
        try:
            with stages.of("write"):
                for block in blocks:
                    if block.rows:
                        await self._insert(block)
        except Rejectable as error:
            return error
        return None

    async def _divide(self, touched: Sequence[_Touched], why: Rejectable, stages: Stages) -> list[Event]:
        """Find by halving the records that cannot pass: O(culprits · log records) attempts."""
        for item in touched:
            self._known.drop(item.query)
        if len(touched) > 1:
            half = len(touched) // 2
            return await self._settle(touched[:half], stages) + await self._settle(touched[half:], stages)
        item = touched[0]
        if not item.new:
            log.error("a stored query can no longer be folded", extra={"query": item.query, "why": str(why)})
            return []
        if len(item.new) == 1:
            return [reject_arrival(item.new[0][0], why)]
        # the earlier half first, so that the same record is refused however the batch was cut
        item.new.sort(key=lambda pair: (pair[0].event.recordedtime, pair[0].event.contenthash))
        half = len(item.new) // 2
        first = _Touched(item.query, item.stored, item.values, item.new[:half])
        rejections = await self._settle([first], stages)
        refused = {event.subject for event in rejections}
        passed = [
            (arrival, record)
            for arrival, record in first.new
            if rejection_entry_id(arrival.event.tenant, arrival.value) not in refused
        ]
        second = _Touched(
            item.query,
            [*item.stored, *(record for _, record in passed)],
            item.values + tuple(arrival.value for arrival, _ in passed),
            item.new[half:],
        )
        return rejections + await self._settle([second], stages)

    async def _insert(self, block: Block) -> None:
        await persist(
            lambda: self._sink.insert(block),
            doing=f"writing {block.table}",
            retry_for_s=self._retry_for_s,
        )


def _refuse_as_full(query: QueryKey, arrival: Arrival) -> Event:
    why = Rejectable(
        Reason.STORAGE_REFUSED,
        f"query {query[0]}/{query[1]} is full: an episode holds {EPISODE_RECORDS:,} records, and "
        f"{EPISODE_BYTES >> 20} MiB of them; give each question a query_id of its own",
        field="data.query_id",
    )
    return reject_arrival(arrival, why)


def _decode_stored(query: QueryKey, values: Sequence[bytes]) -> dict[RecordKey, Record]:
    records: dict[RecordKey, Record] = {}
    for value in values:
        try:
            collect_records([decode_record(value)], records)
        except Rejectable as error:
            log.error("a stored record can no longer be read", extra={"query": query, "why": str(error)})
    return records
