"""`ratchet rebuild`, the worker paused: read the log from its beginning, build beside, compare, swap (L6).

The same decoding, folds and columns as the worker's; no Faust and no look-ups. It appends nothing to the log:
what the worker rejected is in `rejected` already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from schemas.codec import decode_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import Fatal, Reason, Rejectable
from schemas.rejections import EventRejected, rejection_entry_id
from schemas.topics import DOCUMENTS, INTERACTIONS, LIFECYCLE, REJECTED, WAITING
from streams.batch import BatchProcessor
from streams.columns import contribution_columns, episode_columns, event_columns
from streams.fold import FOLD_VERSION, fold_episode
from streams.persistence import persist
from streams.ports import Digest, LogReader, Message, Offsets, QueryKey, RowSink, StoreBeside, Table
from streams.records import decode_record
from streams.rejecting import read_message, read_messages
from streams.settings import StreamSettings
from streams.weights import INSERT_BYTES, cut_by_bytes

#: What depends on the fold's version as well as on the log.
_DERIVED: Final = frozenset({"episodes", "pairs", "contributions"})
#: Entries whose original was readable; it was held back from the store, or could not be stored.
_HELD_BACK: Final = frozenset({Reason.FOLD_FAILED.value, Reason.STORAGE_REFUSED.value})

#: Called with a step (`read interactions`, `fold`, …) and the number of records or queries done in it.
Progress = Callable[[str, int], None]


class RebuildReport(Struct, frozen=True, kw_only=True):
    """What a rebuild found. `different`: tables whose digests differ; it swaps only if there are none."""

    records: dict[str, int]
    queries: int
    living: dict[str, Digest]
    beside: dict[str, Digest]
    different: tuple[str, ...]
    #: Tables that were not compared: another version of the fold, or none, wrote the living ones.
    not_compared: tuple[str, ...]
    swapped: bool


async def rebuild(
    reader: LogReader,
    store: StoreBeside,
    until: Mapping[str, Offsets],
    settings: StreamSettings,
    *,
    progress: Progress = lambda *_: None,
    accept_difference: bool = False,
) -> RebuildReport:
    """Fold the log up to `until` (topic → the offsets that the paused worker has committed) into a new store.

    If it equals the living one it takes its place; the worker goes on from the same offsets. If they differ
    nothing is swapped, unless `accept_difference`: the log is the truth, so the new store is right wherever
    the old one was damaged. But it also differs if the worker was killed between writing and committing:
    start and stop it once, then rebuild.

    Raises Fatal if the log has forgotten its beginning or the store stays down.
    """
    await persist(store.create, doing="creating a store beside", retry_for_s=settings.retry_for_s)
    building = _Building(store, settings, progress)
    records = {}
    # rejections first: they name the records that the worker held back
    for topic in (REJECTED, DOCUMENTS, LIFECYCLE, WAITING, INTERACTIONS):
        records[topic] = await building.load(topic, reader, until.get(topic, {}))
    queries = await building.fold_all()
    await building.try_held_back()

    progress("compare", 0)
    living, beside = await store.digests()
    same_fold = await store.living_fold_version() == FOLD_VERSION
    compared = {name for name in beside if same_fold or name not in _DERIVED}
    different = tuple(sorted(name for name in compared if living.get(name) != beside[name]))
    swap = not different or accept_difference
    if swap:
        progress("swap", 0)
        await store.swap(FOLD_VERSION)
    else:
        await store.drop()
    return RebuildReport(
        records=records,
        queries=queries,
        living=living,
        beside=beside,
        different=different,
        not_compared=tuple(sorted(beside.keys() - compared)),
        swapped=swap,
    )


class _NoRejections:
    """A rebuild produces nothing: an entry for the same record is in the log already."""

    async def append(self, events: Sequence[Event]) -> None:
        """Leave them out."""
        del events


class _Building:
    def __init__(self, store: StoreBeside, settings: StreamSettings, progress: Progress) -> None:
        self._store = store
        self._settings = settings
        self._progress = progress
        self._processor = BatchProcessor(store.sink, store.lookup, _NoRejections(), settings)
        self._held_back: set[str] = set()
        self._tried_last: list[Message] = []

    async def load(self, topic: str, reader: LogReader, until: Offsets) -> int:
        """Store all records of a topic; of `interactions` only the events themselves. The number read."""
        done = 0
        async for messages in reader.read(topic, until):
            if topic == INTERACTIONS:
                await self._load_events(messages)
            else:
                if topic == REJECTED:
                    self._held_back.update(_entries_held_back(messages))
                await self._processor.process(topic, messages)
            done += len(messages)
            self._progress(f"read {topic}", done)
        return done

    async def _load_events(self, messages: Sequence[Message]) -> None:
        if self._held_back:
            self._tried_last += [m for m in messages if _entry_id(m) in self._held_back]
            messages = [m for m in messages if _entry_id(m) not in self._held_back]
        read, _ = read_messages(messages)
        for part in cut_by_bytes(read, lambda item: len(item[0].value), INSERT_BYTES):
            await self._insert("events", event_columns([arrival for arrival, _ in part]))

    async def fold_all(self) -> int:
        """Fold each stored query once, in key order. The number of queries."""
        done = 0
        async for batch in self._store.stored_queries():
            for part in cut_by_bytes(batch, lambda stored: sum(map(len, stored[1])), INSERT_BYTES):
                episodes = [_fold(query, values) for query, values in part]
                await self._insert("contributions", contribution_columns(episodes))
                await self._insert("episodes", episode_columns(episodes))
                done += len(part)
                self._progress("fold", done)
        return done

    async def try_held_back(self) -> None:
        """Process the records that the worker rejected, one by one: a mended fold may take them now."""
        self._tried_last.sort(key=_by_received_time)
        for message in self._tried_last:
            await self._processor.process(message.topic, [message])

    async def _insert(self, table: Table, columns: Mapping[str, object]) -> None:
        sink: RowSink = self._store.sink
        try:
            block = sink.prepare(table, columns)
            await persist(
                lambda: sink.insert(block),
                doing=f"writing {table} beside",
                retry_for_s=self._settings.retry_for_s,
            )
        except Rejectable as error:
            raise Fatal(
                f"the store beside refuses rows of {table} that the log does not name as refused: {error}; "
                "start the worker, let it pass these records, then rebuild"
            ) from error


def _fold(query: QueryKey, values: Sequence[bytes]) -> Episode:
    try:
        return fold_episode([decode_record(value) for value in values])
    except Exception as error:
        raise Fatal(
            f"this fold ({FOLD_VERSION}) raises on query {query[0]}/{query[1]}, which was stored: "
            f"{error!r}; mend the fold before its rows replace any"
        ) from error


def _entries_held_back(messages: Sequence[Message]) -> list[str]:
    entries = []
    for message in messages:
        try:
            _, record = read_message(message)
        except Rejectable:
            continue
        if type(record.payload) is EventRejected and record.payload.reason in _HELD_BACK:
            entries.append(record.payload.entry_id)
    return entries


def _entry_id(message: Message) -> str:
    return rejection_entry_id(message.key.split(b"/", 1)[0].decode("utf-8", "replace"), message.value)


def _by_received_time(message: Message) -> tuple[object, str]:
    event = decode_event(message.value)
    return event.recordedtime, event.contenthash
