"""Stream workers over one store and one log, in memory: they are moved, killed, and made to stand still.

The log has two partitions; three queries live in them. A worker is a real `BatchProcessor`. Like a real one
it reads on from where it is, commits sometimes, forgets what it knows at every assignment and revocation,
and starts at the committed offsets. One that stands still in the midst of a batch loses its partitions to
another, without knowing; when it goes on it writes what it had in hand, and perhaps what it had fetched.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Literal

from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.errors import Fatal
from schemas.topics import INTERACTIONS
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Block, Message, QueryKey, Table

TENANT: Final = "acme"
#: Query → its partition.
QUERIES: Final = {"q-1": 0, "q-2": 0, "q-3": 1}

Processors = Callable[["Gate", MemoryLog], BatchProcessor]


class Gate:
    """The store as one worker sees it. Before a chosen call the worker is killed, or stands still."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._calls_left: int | None = None
        self._then: Literal["die", "stand"] = "die"
        self.standing = asyncio.Event()
        self._go_on = asyncio.Event()

    def arm(self, then: Literal["die", "stand"], after_calls: int) -> None:
        """Let this many calls pass, then die or stand still."""
        self._then, self._calls_left = then, after_calls

    def open(self) -> None:
        """Go on, and stand still no more."""
        self._calls_left = None
        self._go_on.set()

    async def _pass(self) -> None:
        if self._calls_left is None:
            return
        if self._calls_left > 0:
            self._calls_left -= 1
            return
        if self._then == "die":
            raise Fatal("killed here")
        self.standing.set()
        await self._go_on.wait()

    def prepare(self, table: Table, columns: Mapping[str, Any]) -> Block:
        """As the store does."""
        return self._store.prepare(table, columns)

    async def insert(self, block: Block) -> None:
        """As the store does, behind the gate."""
        await self._pass()
        await self._store.insert(block)

    async def records_of(self, queries: Collection[QueryKey]) -> dict[QueryKey, list[bytes]]:
        """As the store does; standing still between a look-up and the inserts is the next call's matter."""
        await self._pass()
        return await self._store.records_of(queries)

    async def lifecycle_before(self, tenant: str, partition: int, offset: int) -> list[bytes]:
        """As the store does."""
        return await self._store.lifecycle_before(tenant, partition, offset)


class Worker:
    """A processor, and how far it has read each of its partitions."""

    def __init__(self, store: MemoryStore, log: MemoryLog, processors: Processors) -> None:
        self.gate = Gate(store)
        self.processor = processors(self.gate, log)
        self.positions: dict[int, int] = {}
        #: Of one that stands still: the batch in hand, and the ends of what it had fetched.
        self.in_hand: asyncio.Task[None] | None = None
        self.fetched: dict[int, int] = {}


class Cluster:
    """A group of workers. Every partition has one owner; those that stand still own nothing."""

    def __init__(self, store: MemoryStore, processors: Processors) -> None:
        self._runner = asyncio.Runner()
        self._processors = processors
        self.store = store
        self.rejected = MemoryLog()
        self.log: dict[int, list[Message]] = {partition: [] for partition in sorted(set(QUERIES.values()))}
        self.committed = dict.fromkeys(self.log, 0)
        #: Partition → offset before which some worker has finished with everything.
        self.settled = dict.fromkeys(self.log, 0)
        self.paused: list[Worker] = []
        self.workers = [self._worker(), self._worker()]
        for partition in self.log:
            self._assign(partition, self.workers[0])

    def send(self, event: Event) -> None:
        """Append to the partition of its query."""
        partition = QUERIES[event.subject or ""]
        records = self.log[partition]
        records.append(Message(INTERACTIONS, partition, len(records), b"", encode_event(event), 0))

    def deliver(self, worker: Worker, size: int) -> None:
        """The next batch of this worker, up to `size` records of each of its partitions."""
        batch, ends = self._next_batch(worker, size, {p: len(self.log[p]) for p in worker.positions})
        self._runner.run(self._process(worker, batch, ends))

    def commit(self, worker: Worker) -> None:
        """What it has finished with."""
        self.committed.update(worker.positions)

    def kill(self, worker: Worker, size: int, after_calls: int) -> None:
        """Kill it in its next batch before some call of the store; a new one starts in its place."""
        worker.gate.arm("die", after_calls)
        with contextlib.suppress(Fatal):
            self.deliver(worker, size)
        self._replace(worker)

    def move(self, partition: int, to: Worker) -> None:
        """A rebalance: both forget, and the new owner starts at the committed offset."""
        owner = self.owner(partition)
        del owner.positions[partition]
        owner.processor.forget()
        self._assign(partition, to)

    def pause(self, worker: Worker, size: int, after_calls: int) -> None:
        """It stands still in its next batch, and another takes over; or the batch ends before that."""
        worker.gate.arm("stand", after_calls)
        worker.fetched = {partition: len(self.log[partition]) for partition in worker.positions}
        batch, ends = self._next_batch(worker, size, worker.fetched)

        async def until_still() -> None:
            task = asyncio.create_task(self._process(worker, batch, ends))
            still = asyncio.create_task(worker.gate.standing.wait())
            await asyncio.wait((task, still), return_when=asyncio.FIRST_COMPLETED)
            still.cancel()
            worker.in_hand = None if task.done() else task
            if task.done():
                task.result()

        self._runner.run(until_still())
        if worker.in_hand is None:
            worker.gate.open()
            return
        self.paused.append(worker)
        self._replace(worker)

    def resume(self, worker: Worker, batches: int, size: int) -> None:
        """It goes on with what it had in hand, then with `batches` of what it had fetched; only then it
        learns that others own its partitions, forgets, and joins the group again. It commits nothing.
        """
        task = worker.in_hand
        assert task is not None
        worker.in_hand = None
        worker.gate.open()

        async def go_on() -> None:
            await task
            for _ in range(batches):
                await self._process(worker, *self._next_batch(worker, size, worker.fetched))

        self._runner.run(go_on())
        worker.positions.clear()
        worker.processor.forget()
        self.paused.remove(worker)
        self.workers.append(worker)

    def owner(self, partition: int) -> Worker:
        """Who reads it now."""
        return next(worker for worker in self.workers if partition in worker.positions)

    def close(self) -> None:
        """End the loop, with whoever still stands still."""
        self._runner.close()

    def _worker(self) -> Worker:
        return Worker(self.store, self.rejected, self._processors)

    def _assign(self, partition: int, worker: Worker) -> None:
        worker.processor.forget()
        worker.positions[partition] = self.committed[partition]

    def _replace(self, worker: Worker) -> None:
        self.workers[self.workers.index(worker)] = successor = self._worker()
        for partition in worker.positions:
            self._assign(partition, successor)

    def _next_batch(
        self, worker: Worker, size: int, until: Mapping[int, int]
    ) -> tuple[list[Message], dict[int, int]]:
        ends = {p: min(start + size, until[p]) for p, start in worker.positions.items()}
        return [m for p, end in ends.items() for m in self.log[p][worker.positions[p] : end]], ends

    async def _process(self, worker: Worker, batch: Sequence[Message], ends: Mapping[int, int]) -> None:
        await worker.processor.process(INTERACTIONS, batch)
        worker.positions.update(ends)
        for partition, end in ends.items():
            self.settled[partition] = max(self.settled[partition], end)
