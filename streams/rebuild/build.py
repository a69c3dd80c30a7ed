"""A store beside, filled from the log: read and fold it in pieces, fold the rest, follow it. Resumable.

The same decoding, folds and columns as the worker's; no Faust, and no look-ups until it follows. A query
whose records lie in one piece of the log, as most do, is folded with it. One whose records lie in several has
a row that does not count them all: so it is found when all is read, and folded once more. It appends nothing
to the log: what the worker rejected is in `rejected` already.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Final, TypeVar

from msgspec.structs import replace

from schemas.codec import decode_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import Fatal, Reason, Rejectable
from schemas.rejections import EventRejected, rejection_entry_id
from schemas.topics import INTERACTIONS, REJECTED, TOPICS
from streams.batch import BatchProcessor
from streams.columns import contribution_columns, episode_columns, event_columns
from streams.fold import FOLD_VERSION, fold_episode
from streams.persistence import persist
from streams.ports import Block, LogReader, Message, Offsets, QueryKey, StoreBeside, Table
from streams.rebuild.inserting import Inserting, collected_rarely, refused_beside
from streams.rebuild.state import BuildState, decode_state, encode_state
from streams.records import Arrival, Record, decode_record
from streams.rejecting import read_message, read_messages
from streams.settings import StreamSettings
from streams.weights import INSERT_BYTES, cut_by_bytes

#: Entries whose original was readable; it was held back from the store, or could not be stored.
_HELD_BACK: Final = frozenset({Reason.FOLD_FAILED.value, Reason.STORAGE_REFUSED.value})
#: Records that are folded and inserted at once: fewer, larger parts make less work for the store, and fewer
#: queries lie in several pieces.
PIECE_RECORDS: Final = 20_000
#: Records or queries that are worked on before the loop has its turn; some milliseconds.
_AT_ONCE: Final = 500
#: After this many inserts the garbage collector has a look.
_INSERTS_A_COLLECTION: Final = 50

_T = TypeVar("_T")
#: Called with a step (`read interactions`, `fold`, …), the records done in it, and all of them if known.
Progress = Callable[[str, int, int | None], None]


def ignore(_step: str, _done: int, _of: int | None) -> None:
    """For callers that want no progress."""


class NoRejections:
    """A rebuild produces nothing: an entry for the same record is in the log already."""

    async def append(self, events: Sequence[Event]) -> None:
        """Leave them out."""
        del events


class Build:
    """One store beside. `state` says how far it is; killed at any moment, the next one goes on from there."""

    def __init__(
        self,
        reader: LogReader,
        store: StoreBeside,
        settings: StreamSettings,
        state: BuildState,
        progress: Progress = ignore,
        *,
        resumed: bool = False,
    ) -> None:
        """Use `open_build`. `resumed`: an earlier one's work is gone on with."""
        self.state = state
        self.resumed = resumed
        self._reader = reader
        self._store = store
        self._retry_for_s = settings.retry_for_s
        self._progress = progress
        self._processor = BatchProcessor(store.sink, store.lookup, NoRejections(), settings)

    async def read(self) -> None:
        """All of the log before the state's target, folded. Does nothing if that has been done.

        Raises Fatal if the log has forgotten its beginning, the fold raises, or the store stays down.
        """
        with collected_rarely() as collect:
            if self.state.phase == "load":
                await self._load(collect)
                await self.note(replace(self.state, phase="fold"))
            if self.state.phase == "fold":
                await self._fold_rest(collect)
                await self.note(replace(self.state, phase="held_back"))
            if self.state.phase == "held_back":
                await self._try_held_back()
                await self.note(replace(self.state, phase="follow"))

    async def follow(self, until: Mapping[str, Offsets]) -> int:
        """Process what came since, as the worker does, up to `until`. The number of records."""
        done, all_of_them = 0, self.state.behind(until)
        with collected_rarely():
            for topic in _reading_order():
                ends = until.get(topic, {})
                async for messages in self._reader.read(topic, ends, self.state.since(topic)):
                    await self._processor.process(topic, messages)
                    await self.note(self.state.after(topic, messages))
                    done += len(messages)
                    self._progress("catch up", done, all_of_them)
        return done

    async def note(self, state: BuildState) -> None:
        """Take this as the state, durably."""
        await self._write_down(state)
        self.state = state

    async def _write_down(self, state: BuildState) -> None:
        await persist(
            lambda: self._store.note(encode_state(state)),
            doing="noting how far the rebuild is",
            retry_for_s=self._retry_for_s,
        )

    async def _load(self, collect: Callable[[], int]) -> None:
        held_back = await self._entries_held_back()
        async with Inserting(self._store.sink, retry_for_s=self._retry_for_s) as inserting:
            for topic in _reading_order():
                await self._load_topic(topic, held_back, inserting, collect)

    async def _entries_held_back(self) -> frozenset[str]:
        """Entries of records that a worker rejected though they were readable, up to the end of the log.

        They are left out of the first fold: their query's other records must not suffer from them.
        """
        found: set[str] = set()
        ends = await self._reader.end_offsets(REJECTED)
        async for messages in self._reader.read(REJECTED, ends):
            found.update(_readable_entries(messages))
        return frozenset(found)

    async def _load_topic(
        self, topic: str, held_back: frozenset[str], inserting: Inserting, collect: Callable[[], int]
    ) -> None:
        step, target = f"read {topic}", self.state.target.get(topic, {})
        all_of_them = sum(target.values())
        inserts = 0
        async for messages in gathered(self._reader.read(topic, target, self.state.since(topic))):
            # durable only once the rows are
            state = self.state.after(topic, messages)
            if topic == INTERACTIONS:
                kept = messages
                if held_back:
                    there = {(m.partition, m.offset) for m in messages if _entry_id(m) in held_back}
                    state = replace(state, held_back=tuple(sorted(there.union(state.held_back))))
                    kept = [m for m in messages if (m.partition, m.offset) not in there]
                blocks = await self._fold_piece(kept)
            else:
                await inserting.settle()
                await self._processor.process(topic, messages)
                blocks = []
            await inserting.put(blocks, functools.partial(self._write_down, state))
            self.state = state
            inserts += 1
            if inserts % _INSERTS_A_COLLECTION == 0:
                collect()
            self._progress(step, state.records[topic], all_of_them)
        await inserting.settle()

    async def _fold_piece(self, messages: Sequence[Message]) -> list[Block]:
        """Rows of these records, and of their queries as far as these records tell."""
        read: list[tuple[Arrival, Record]] = []
        for some in in_turns(messages):
            await asyncio.sleep(0)
            read += read_messages(some)[0]
        blocks = []
        for part in cut_by_bytes(read, lambda item: len(item[0].value), INSERT_BYTES):
            await asyncio.sleep(0)
            blocks.append(self._prepare("events", event_columns([arrival for arrival, _ in part])))
            queries: dict[QueryKey, list[Record]] = {}
            for arrival, record in part:
                queries.setdefault((arrival.event.tenant, arrival.event.subject or ""), []).append(record)
            episodes: list[Episode] = []
            for several in in_turns(list(queries.values())):
                await asyncio.sleep(0)
                episodes += [e for e in map(_fold_some, several) if e is not None]
            blocks += await self._encode_episodes(episodes)
        return blocks

    async def _encode_episodes(self, episodes: Sequence[Episode]) -> list[Block]:
        await asyncio.sleep(0)
        contributions = self._prepare("contributions", contribution_columns(episodes))
        await asyncio.sleep(0)
        return [contributions, self._prepare("episodes", episode_columns(episodes))]

    async def _fold_rest(self, collect: Callable[[], int]) -> None:
        """Fold each query whose row does not count all of its records."""
        inserts = records = 0
        async with Inserting(self._store.sink, retry_for_s=self._retry_for_s) as inserting:
            async for batch in self._store.unfolded_queries():
                for part in cut_by_bytes(batch, lambda stored: sum(map(len, stored[1])), INSERT_BYTES):
                    episodes: list[Episode] = []
                    for several in in_turns(part):
                        await asyncio.sleep(0)
                        episodes += [fold_stored(query, values) for query, values in several]
                    await inserting.put(await self._encode_episodes(episodes))
                    inserts += 1
                    if inserts % _INSERTS_A_COLLECTION == 0:
                        collect()
                    records += sum(len(values) for _, values in part)
                    self._progress("fold what came in pieces", records, None)

    async def _try_held_back(self) -> None:
        """Process the records that the worker rejected, one by one: a mended fold may take them now."""
        messages = []
        for partition, offset in self.state.held_back:
            async for read in self._reader.read(INTERACTIONS, {partition: offset + 1}, {partition: offset}):
                messages += read
        for message in sorted(messages, key=_by_received_time):
            await self._processor.process(INTERACTIONS, [message])

    def _prepare(self, table: Table, columns: Mapping[str, object]) -> Block:
        try:
            return self._store.sink.prepare(table, columns)
        except Rejectable as error:
            raise refused_beside(table, error) from error


async def open_build(
    reader: LogReader,
    store: StoreBeside,
    target: Mapping[str, Offsets],
    settings: StreamSettings,
    *,
    progress: Progress = ignore,
    goes_on: Callable[[BuildState], bool],
) -> Build:
    """A build of the log up to `target`, or the unfinished one beside, if `goes_on` says so of its state.

    What cannot be gone on with (another fold, another layout of the tables) is dropped.
    """
    noted = await persist(
        store.noted, doing="looking for an unfinished rebuild", retry_for_s=settings.retry_for_s
    )
    state = decode_state(noted)
    if state is not None and goes_on(state):
        return Build(reader, store, settings, state, progress, resumed=True)
    await persist(store.create, doing="creating a store beside", retry_for_s=settings.retry_for_s)
    state = BuildState(target={topic: dict(ends) for topic, ends in target.items()})
    build = Build(reader, store, settings, state, progress)
    await build.note(state)
    return build


async def gathered(batches: AsyncIterator[list[Message]]) -> AsyncIterator[list[Message]]:
    """The same records in larger batches: as many as one insert takes."""
    together: list[Message] = []
    size_bytes = 0
    async for batch in batches:
        together += batch
        size_bytes += sum(len(message.value) for message in batch)
        if len(together) >= PIECE_RECORDS or size_bytes >= INSERT_BYTES:
            yield together
            together, size_bytes = [], 0
    if together:
        yield together


def in_turns(things: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The things, some at a time: between them the loop has to go on with what is being stored."""
    return (things[start : start + _AT_ONCE] for start in range(0, len(things), _AT_ONCE))


def _fold_some(records: Sequence[Record]) -> Episode | None:
    """The episode of these records; None if the fold raises on them.

    There may be more of this query, and it is found again when all is read: only then this is an error.
    """
    try:
        return fold_episode(records)
    except Exception:
        return None


def fold_stored(query: QueryKey, values: Sequence[bytes]) -> Episode:
    """The episode of stored records. Raises Fatal, naming the query, if the fold raises."""
    try:
        return fold_episode([decode_record(value) for value in values])
    except Exception as error:
        raise Fatal(
            f"this fold ({FOLD_VERSION}) raises on query {query[0]}/{query[1]}, which was stored: "
            f"{error!r}; mend the fold before its rows replace any"
        ) from error


def _reading_order() -> list[str]:
    """Every topic; the largest last, once it is known what of it was held back."""
    names = [topic.name for topic in TOPICS if topic.name not in (REJECTED, INTERACTIONS)]
    return [REJECTED, *names, INTERACTIONS]


def _readable_entries(messages: Sequence[Message]) -> list[str]:
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
