"""What a worker may commit: the records of the chunks before the first that is not acknowledged."""

from __future__ import annotations

from collections import defaultdict, deque

from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st

from streams.faust_transport import Chunk, ChunkConsumer

PLACE = TP("interactions", 3)


def consumer_with(offsets: list[int]) -> tuple[ChunkConsumer, list[Chunk]]:
    """A consumer that has handed on a chunk for each last offset, without a broker behind it."""
    consumer = ChunkConsumer.__new__(ChunkConsumer)
    consumer._handed = defaultdict(deque)
    consumer._stored = {}
    consumer._unacked_messages = set()
    consumer._waiting_for_ack = None
    chunks = [
        Chunk("interactions", 3, last, 0.0, 0, (), b"", b"", None, tp=PLACE, generation_id=1)
        for last in offsets
    ]
    consumer._handed[PLACE].extend(chunks)
    return consumer, chunks


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12), data=st.data())
def test_an_offset_is_committed_once_all_before_it_is_stored(sizes: list[int], data: st.DataObject) -> None:
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    consumer, chunks = consumer_with([end - 1 for end in ends])
    order = data.draw(st.permutations(range(len(chunks))))
    acked: set[int] = set()
    assert consumer._new_offset(PLACE) is None
    for number in order:
        assert consumer.ack(chunks[number])
        assert not consumer.ack(chunks[number])
        acked.add(number)
        first_open = next((n for n in range(len(chunks)) if n not in acked), len(chunks))
        assert consumer._new_offset(PLACE) == (ends[first_open - 1] if first_open else None)
        # what was not committed, because the commit failed, is offered again
        assert consumer._new_offset(PLACE) == (ends[first_open - 1] if first_open else None)
