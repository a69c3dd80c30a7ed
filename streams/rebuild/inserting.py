"""Writing beside while the next rows are made: one group of blocks is under way, the next is encoded."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from schemas.errors import Fatal, Rejectable
from streams.persistence import persist
from streams.ports import Block, RowSink


class Inserting:
    """Blocks on their way to the store, in the order in which they were put; an async context manager.

    A block that was put is stored when the next `put`, `settle` or the end of the block of code has returned.
    """

    def __init__(self, sink: RowSink, *, retry_for_s: float) -> None:
        self._sink = sink
        self._retry_for_s = retry_for_s
        self._under_way: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.settle()
        elif self._under_way is not None:
            self._under_way.cancel()
            await asyncio.gather(self._under_way, return_exceptions=True)

    async def put(self, blocks: Sequence[Block], then: Callable[[], Awaitable[None]]) -> None:
        """Start storing these blocks once the earlier ones are stored; call `then` once these are.

        Raises what storing the earlier ones raised: Fatal.
        """
        await self.settle()
        self._under_way = asyncio.create_task(self._store(blocks, then))
        await asyncio.sleep(0)  # the insert is on its way before the caller goes on computing

    async def settle(self) -> None:
        """Wait until all is stored. Raises Fatal."""
        if self._under_way is not None:
            under_way, self._under_way = self._under_way, None
            await under_way

    async def _store(self, blocks: Sequence[Block], then: Callable[[], Awaitable[None]]) -> None:
        for block in blocks:
            await self._insert(block)
        await then()

    async def _insert(self, block: Block) -> None:
        try:
            await persist(
                lambda: self._sink.insert(block),
                doing=f"writing {block.table} beside",
                retry_for_s=self._retry_for_s,
            )
        except Rejectable as error:
            raise refused_beside(block.table, error) from error


def refused_beside(table: str, error: Exception) -> Fatal:
    """The store beside takes less than the living one did."""
    return Fatal(
        f"the store beside refuses rows of {table} that the log does not name as refused: {error}; "
        "start the worker, let it pass these records, then rebuild"
    )


@contextmanager
def collected_rarely() -> Iterator[Callable[[], int]]:
    """No collection of reference cycles inside the block, except when the function that it gives is called.

    Events and episodes hold no cycles, but a collector that looks at each of them again and again takes more
    time than reading and folding them (measured: 101 instead of 45 µs an event).
    """
    was_enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
