"""Writing beside while the next rows are made: one group of blocks is under way, the next is encoded."""

from __future__ import annotations

import asyncio
import gc
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Final, Self

from schemas.errors import Fatal, Rejectable
from streams.persistence import persist
from streams.ports import Block, RowSink

#: Groups of blocks that wait to be stored: what is computed and what is stored take turns in being slower.
_AHEAD: Final = 2


class Inserting:
    """Blocks on their way to the store, in the order in which they were put; an async context manager.

    A block that was put is stored when `settle` or the block of code has returned; a few groups wait at most.
    """

    def __init__(self, sink: RowSink, *, retry_for_s: float) -> None:
        self._sink = sink
        self._retry_for_s = retry_for_s
        self._under_way: deque[asyncio.Task[None]] = deque()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.settle()
        else:
            for task in self._under_way:
                task.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def put(self, blocks: Sequence[Block], then: Callable[[], Awaitable[None]] | None = None) -> None:
        """Start storing these blocks once the earlier ones are stored; call `then` once these are.

        Raises what storing earlier ones raised: Fatal.
        """
        while len(self._under_way) > _AHEAD:
            await self._under_way.popleft()
        before = self._under_way[-1] if self._under_way else None
        self._under_way.append(asyncio.create_task(self._store(before, blocks, then)))
        await asyncio.sleep(0)  # the insert is on its way before the caller goes on computing

    async def settle(self) -> None:
        """Wait until all is stored. Raises Fatal."""
        while self._under_way:
            await self._under_way.popleft()

    async def _store(
        self,
        before: asyncio.Task[None] | None,
        blocks: Sequence[Block],
        then: Callable[[], Awaitable[None]] | None,
    ) -> None:
        if before is not None:
            await before
        for block in blocks:
            await self._insert(block)
        if then is not None:
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
