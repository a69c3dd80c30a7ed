"""Episodes under everything at once: early, late, repeated, conflicting, retracted and re-keyed events, cuts,
kills in the midst of a batch, partition moves, and a worker that comes back after its successor went on.

After each step the rows are those of the plain model's episode of the set of records that are stored.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from msgspec import Struct

from schemas.codec import decode_event, decode_payload, seal_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.interactions import FeedbackGiven, FeedbackRetracted, QueryAsked
from streams.batch import BatchProcessor
from streams.columns import contribution_columns, episode_columns
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Block, QueryKey, RecordLookup, RowSink, Table
from streams.settings import StreamSettings
from tests.properties.episode_cluster import QUERIES, TENANT, Cluster, Gate
from tests.properties.fold_strategies import about_query, payloads, random_search, received_again, sealed
from tests.reference_model import expected_episode

DERIVED: tuple[Table, ...] = ("episodes", "contributions")
Rows = list[dict[str, Any]]

query_ids = st.sampled_from(sorted(QUERIES))
partitions = st.sampled_from(sorted(set(QUERIES.values())))
sizes = st.integers(1, 7)
calls = st.integers(0, 4)
picks = st.integers(0, 10_000)


@functools.lru_cache(maxsize=4096)
def expected_rows(values: frozenset[bytes]) -> tuple[Rows, Rows]:
    """Rows of `episodes` and `contributions` that the plain model wants for these records of one query."""
    if not values:
        return [], []
    episode = msgspec.convert(expected_episode(sorted(values)), Episode)
    scratch = MemoryStore()
    rows = [
        scratch.prepare("episodes", episode_columns([episode])).payload,
        scratch.prepare("contributions", contribution_columns([episode])).payload,
    ]
    return rows[0], sorted(rows[1], key=lambda row: str(row["unit"]))


class EpisodeMachine(RuleBasedStateMachine):
    """Random interleavings. The model: the log as a list, and what is stored as sets in a dict."""

    store: ClassVar[type[MemoryStore]] = MemoryStore
    processor: ClassVar[type[BatchProcessor]] = BatchProcessor

    def __init__(self) -> None:
        super().__init__()
        self.cluster: Cluster

    @initialize(
        insert_bytes=st.sampled_from([1 << 25, 3_000, 1]), known_bytes=st.sampled_from([1 << 25, 3_000, 0])
    )
    def start(self, insert_bytes: int, known_bytes: int) -> None:
        """Two workers; the first owns everything."""

        def processor(gate: Gate, rejected: MemoryLog) -> BatchProcessor:
            chosen = StreamSettings(known_bytes=known_bytes)
            return self.processor(gate, gate, rejected, chosen, insert_bytes=insert_bytes)

        self.cluster = Cluster(self.store(), processor)

    # --- what clients do

    @rule(event=sealed(payloads), query_id=query_ids)
    def send(self, event: Event, query_id: str) -> None:
        """Anything about a query, before or after the query itself."""
        self.cluster.send(about_query(event, query_id))

    @rule(seed=st.integers(0, 2**32 - 1), query_id=query_ids)
    def send_search(self, seed: int, query_id: str) -> None:
        """A whole search, in any order."""
        events = random_search(seed)
        random.Random(seed).shuffle(events)
        for event in events:
            self.cluster.send(about_query(event, query_id))

    @rule(pick=picks, late_s=st.integers(0, 20))
    def send_again(self, pick: int, late_s: int) -> None:
        """A client or a broker sends the same once more; with 0 s it is the very same record."""
        if event := self._sent(pick):
            self.cluster.send(received_again(event, late_s))

    @rule(pick=picks, payload=payloads, late_s=st.integers(-5, 5))
    def contradict(self, pick: int, payload: Struct, late_s: int) -> None:
        """The same identity with other content, received before or after the first."""
        if event := self._sent(pick):
            other = _seal(event, payload, id=event.id)
            self.cluster.send(received_again(about_query(other, event.subject or ""), late_s))

    @rule(pick=picks, id=st.sampled_from(["n1", "n2"]), late_s=st.integers(-5, 5))
    def send_under_new_id(self, pick: int, id: str, late_s: int) -> None:
        """The same thing under another id."""
        if event := self._sent(pick):
            self.cluster.send(received_again(_seal(event, decode_payload(event), id=id), late_s))

    @rule(pick=picks, user=st.sampled_from([None, "ada", "bob", "eve"]), late_s=st.integers(-5, 5))
    def ask_for_other_unit(self, pick: int, user: str | None, late_s: int) -> None:
        """The query once more, of another unit; if it is older, the query's unit changes."""
        if event := self._sent(pick):
            asked = QueryAsked(query_id=event.subject or "", text="Lost card?", user=user)
            self.cluster.send(received_again(_seal(event, asked, id=f"of-{user}"), late_s))

    @rule(pick=picks)
    def retract(self, pick: int) -> None:
        """Feedback that was sent."""
        feedback = [e for e in self._all_sent() if type(decode_payload(e)) is FeedbackGiven]
        if feedback:
            event = feedback[pick % len(feedback)]
            payload = FeedbackRetracted(
                query_id=event.subject or "", feedback_source=event.source, feedback_id=event.id
            )
            self.cluster.send(_seal(event, payload, id=f"not-{event.id}"))

    # --- what becomes of workers

    @rule(partition=partitions, size=sizes, commits=st.booleans())
    def deliver(self, partition: int, size: int, commits: bool) -> None:
        """The next batch of a worker, committed now or later."""
        worker = self.cluster.owner(partition)
        self.cluster.deliver(worker, size)
        if commits:
            self.cluster.commit(worker)

    @rule(partition=partitions, size=sizes, after_calls=calls)
    def kill(self, partition: int, size: int, after_calls: int) -> None:
        """At any moment of a batch."""
        self.cluster.kill(self.cluster.owner(partition), size, after_calls)

    @rule(partition=partitions, pick=picks, size=sizes, commits=st.booleans())
    def move(self, partition: int, pick: int, size: int, commits: bool) -> None:
        """To another worker, which goes on at once; what its owner did not commit is read again."""
        owner = self.cluster.owner(partition)
        others = [worker for worker in self.cluster.workers if worker is not owner]
        if commits:
            self.cluster.commit(owner)
        self.cluster.move(partition, others[pick % len(others)])
        self.cluster.deliver(self.cluster.owner(partition), size)

    @rule(partition=partitions, size=sizes, after_calls=calls)
    def pause(self, partition: int, size: int, after_calls: int) -> None:
        """In the midst of a batch, for longer than its session."""
        if len(self.cluster.paused) < 3:
            self.cluster.pause(self.cluster.owner(partition), size, after_calls)

    @rule(pick=picks, batches=st.integers(0, 2), size=sizes)
    def resume(self, pick: int, batches: int, size: int) -> None:
        """The oldest claims of all are written last."""
        if self.cluster.paused:
            paused = self.cluster.paused[pick % len(self.cluster.paused)]
            self.cluster.resume(paused, batches, size)

    # --- what always holds

    @invariant()
    def rows_are_those_of_what_is_stored(self) -> None:
        """Exactly; while a batch is half written, those of a part of the log that holds all settled ones."""
        assert not self.cluster.rejected.rejections
        stored: dict[str, set[bytes]] = {query_id: set() for query_id in QUERIES}
        for row in self.cluster.store.rows("events"):
            stored[row["query_id"]].add(row["record"])
        rows = {table: self.cluster.store.rows(table) for table in DERIVED}
        for query_id, partition in QUERIES.items():
            settled, possible = self._prefixes(query_id, partition, stored[query_id])
            assert settled <= stored[query_id], "something settled is not stored"
            assert stored[query_id] in possible, "stored is what nobody sent, or with a hole"
            for number, table in enumerate(DERIVED):
                found = [row for row in rows[table] if row["query_id"] == query_id]
                assert found in [expected_rows(frozenset(p))[number] for p in possible], (table, found)

    def teardown(self) -> None:
        """Everything is delivered; the rows are those of all that was sent."""
        if not hasattr(self, "cluster"):
            return
        try:
            for paused in list(self.cluster.paused):
                self.cluster.resume(paused, 1, 3)
            for worker in self.cluster.workers:
                self.cluster.deliver(worker, 1_000_000)
            assert self.cluster.settled == {p: len(records) for p, records in self.cluster.log.items()}
            self.rows_are_those_of_what_is_stored()
        finally:
            self.cluster.close()

    def _prefixes(
        self, query_id: str, partition: int, stored: set[bytes]
    ) -> tuple[set[bytes], list[set[bytes]]]:
        """The settled records of a query; and these with ever more of those that follow, up to the stored."""
        settled: set[bytes] = set()
        following: list[bytes] = []
        for message in self.cluster.log[partition]:
            if decode_event(message.value).subject == query_id:
                if message.offset < self.cluster.settled[partition]:
                    settled.add(message.value)
                elif message.value in stored:
                    following.append(message.value)
        possible = [set(settled)]
        for value in following:
            if value not in possible[-1]:
                possible.append(possible[-1] | {value})
        return settled, possible

    def _all_sent(self) -> list[Event]:
        return [decode_event(message.value) for records in self.cluster.log.values() for message in records]

    def _sent(self, pick: int) -> Event | None:
        messages = [message for records in self.cluster.log.values() for message in records]
        return decode_event(messages[pick % len(messages)].value) if messages else None


def _seal(like: Event, payload: Struct, *, id: str) -> Event:
    return seal_event(
        payload,
        id=id,
        source=like.source,
        tenant=TENANT,
        recordedtime=like.recordedtime,
        time=like.time,
        timetrusted=like.timetrusted,
    )


SEARCHED = settings(max_examples=100, stateful_step_count=40, deadline=None)

TestEpisodeMachine = EpisodeMachine.TestCase
TestEpisodeMachine.settings = SEARCHED


# --- the machine finds what it is there to find


class NeverForgets(BatchProcessor):
    """Believes at every rebalance that nobody else has written."""

    def forget(self) -> None:
        """Nothing."""


class LastWriterWins(MemoryStore):
    """Rows without a version."""

    async def insert(self, block: Block) -> None:
        """The rows replace whatever was there."""
        if block.table in ("episodes", "contributions"):
            for row in block.payload:
                row["record_count"] += 1_000_000
                await super().insert(Block(block.table, 1, [row]))
                row["record_count"] -= 1_000_000
        else:
            await super().insert(block)


class WithoutNews:
    """A sink that takes rows of queries only if records came with them."""

    def __init__(self, sink: RowSink) -> None:
        self._sink = sink
        self._came = False

    def prepare(self, table: Table, columns: Mapping[str, Any]) -> Block:
        """As the sink does."""
        return self._sink.prepare(table, columns)

    async def insert(self, block: Block) -> None:
        """Rows of records, and those that follow them."""
        if self._came or block.table == "events":
            await self._sink.insert(block)
        self._came = block.table == "events" or (self._came and block.table != "episodes")


class WritesOnlyNews(BatchProcessor):
    """Trusts that a record is stored only together with its query's rows."""

    def __init__(self, sink: RowSink, lookup: RecordLookup, *rest: Any, **more: Any) -> None:
        super().__init__(WithoutNews(sink), lookup, *rest, **more)


class LagsBehind(MemoryStore):
    """A replica that has not everything yet."""

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        """All but one record of each query."""
        found = await super().records_of(queries)
        return {query: sorted(values)[1:] for query, values in found.items()}


def fails(machine: type[EpisodeMachine]) -> None:
    """The machine finds a fault within as many examples as the test above has."""
    quick = settings(SEARCHED, max_examples=400, derandomize=True, database=None, phases=[Phase.generate])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=quick)


def test_a_worker_that_does_not_forget_is_found() -> None:
    class Machine(EpisodeMachine):
        processor = NeverForgets

    fails(Machine)


def test_a_store_without_versions_is_found() -> None:
    class Machine(EpisodeMachine):
        store = LastWriterWins

    fails(Machine)


def test_a_worker_that_writes_only_what_is_new_is_found() -> None:
    class Machine(EpisodeMachine):
        processor = WritesOnlyNews

    fails(Machine)


def test_look_ups_that_miss_a_record_are_found() -> None:
    class Machine(EpisodeMachine):
        store = LagsBehind

    fails(Machine)
