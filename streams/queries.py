"""New records of queries → their rows: union with what is stored, one fold a query, three inserts."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import RatchetError, Reason, Rejectable
from schemas.rejections import rejection_entry_id
from streams.columns import contribution_columns, episode_columns, event_columns
from streams.fold import fold_episode
from streams.known import KnownRecords, RecordValues
from streams.persistence import persist
from streams.ports import Block, QueryKey, RecordLookup, RowSink
from streams.records import Arrival, Record, RecordKey, collect_records, decode_record
from streams.rejecting import reject_arrival
from streams.stages import Stages
from streams.weights import INSERT_BYTES, cut_by_bytes

log = logging.getLogger(__name__)


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


class QueryFolder:
    """Writes the rows of touched queries: events, then contributions, then episodes.

    So a reader who sees a query's row can find its events, and a batch that died between two inserts is
    mended when it is read again: every touched query is folded and written, also when its records are known.
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
        for query, items in arrived.items():
            values = stored[query]
            known = _decode_stored(query, values)
            new: dict[RecordKey, tuple[Arrival, Record]] = {}
            for item in items:
                if item[1].key not in known:
                    new.setdefault(item[1].key, item)
            touched.append(_Touched(query, list(known.values()), values, list(new.values())))
        rejections: list[Event] = []
        for part in cut_by_bytes(touched, _Touched.size_bytes, self._insert_bytes):
            rejections += await self._settle(part, stages)
        return FoldedQueries(rejections, sum(len(t.new) for t in touched), len(touched), lookups)

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
        rejections: list[Event] = []
        folded: list[tuple[_Touched, Episode]] = []
        for item in touched:
            with stages.of("fold"):
                episode = item.folded()
            if isinstance(episode, Rejectable):
                rejections += await self._divide([item], episode, stages)
            else:
                folded.append((item, episode))
        if not folded:
            return rejections
        refused = await self._write([item for item, _ in folded], [episode for _, episode in folded], stages)
        if refused is not None:
            return rejections + await self._divide([item for item, _ in folded], refused, stages)
        for item, _ in folded:
            self._known.put(item.query, item.values + tuple(arrival.value for arrival, _ in item.new))
        return rejections

    async def _write(
        self, touched: Sequence[_Touched], episodes: Sequence[Episode], stages: Stages
    ) -> Rejectable | None:
        """Insert the rows of these queries; None, or why the store will never take them all."""
        try:
            with stages.of("encode"):
                blocks = self._encode(touched, episodes)
            with stages.of("write"):
                for block in blocks:
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

    def _encode(self, touched: Sequence[_Touched], episodes: Sequence[Episode]) -> list[Block]:
        arrivals = [arrival for item in touched for arrival, _ in item.new]
        try:
            tables = (
                ("events", event_columns(arrivals)),
                ("contributions", contribution_columns(episodes)),
                ("episodes", episode_columns(episodes)),
            )
        except RatchetError:
            raise
        except Exception as error:
            raise Rejectable(Reason.STORAGE_REFUSED, f"a value does not fit its column: {error!r}") from error
        blocks = [self._sink.prepare(table, columns) for table, columns in tables]  # type: ignore[arg-type]
        return [block for block in blocks if block.rows]

    async def _insert(self, block: Block) -> None:
        await persist(
            lambda: self._sink.insert(block),
            doing=f"writing {block.table}",
            retry_for_s=self._retry_for_s,
        )


def _decode_stored(query: QueryKey, values: Sequence[bytes]) -> dict[RecordKey, Record]:
    records: dict[RecordKey, Record] = {}
    for value in values:
        try:
            collect_records([decode_record(value)], records)
        except Rejectable as error:
            log.error("a stored record can no longer be read", extra={"query": query, "why": str(error)})
    return records
