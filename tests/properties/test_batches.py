"""The rows of a log do not depend on its order, its repetitions or the cuts of its batches (L3, L5)."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.envelope import Event
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Table
from streams.settings import StreamSettings
from streams.weights import INSERT_BYTES
from tests.contents import Content, held_in_memory
from tests.small_log import asked, clicked, conversation, messages_of, received_again, retracted

TALK = conversation("q1", arm="new")
EVENTS = [
    *TALK,
    received_again(TALK[0], at_s=40),
    clicked("q1", "d3", at_s=50),
    *conversation("q2", user="bob", at_s=10),
    retracted("q2", "q2-click", at_s=5),
    asked("q2", user="eve", at_s=3),
    clicked("waits", at_s=60),
    *conversation("q1", tenant="other"),
]
TABLES: tuple[Table, ...] = ("events", "episodes", "contributions")


def rows_of(
    events: list[Event], cut: int, forget_every: int, insert_bytes: int
) -> dict[Table, list[Content]]:
    """Every row that a reader sees, but for its position."""
    store = MemoryStore()
    processor = BatchProcessor(store, store, MemoryLog(), StreamSettings(), insert_bytes=insert_bytes)

    async def process() -> None:
        messages = messages_of(events)
        for number, start in enumerate(range(0, len(messages), cut)):
            if number % forget_every == 0:
                processor.forget()
            await processor.process("interactions", messages[start : start + cut])

    asyncio.run(process())
    return {table: held_in_memory(store, table) for table in TABLES}


EXPECTED = rows_of(EVENTS, 1000, 1, INSERT_BYTES)


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(EVENTS),
    repeated=st.lists(st.sampled_from(EVENTS), max_size=8),
    cut=st.sampled_from([1, 7, 1000]),
    forget_every=st.sampled_from([1, 2, 100]),
    insert_bytes=st.sampled_from([1, 1_500, INSERT_BYTES]),
)
def test_any_order_repetition_and_cut_gives_the_same_rows(
    order: list[Event], repeated: list[Event], cut: int, forget_every: int, insert_bytes: int
) -> None:
    assert rows_of(order + repeated, cut, forget_every, insert_bytes) == EXPECTED
