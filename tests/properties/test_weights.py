"""Parts cut by bytes: nothing lost, nothing moved, none above the limit, none cut without need."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.weights import cut_by_bytes


@given(st.lists(st.binary(max_size=12), max_size=30), st.integers(1, 30))
def test_parts_are_the_items_in_order_and_fit(items: list[bytes], limit_bytes: int) -> None:
    parts = [list(part) for part in cut_by_bytes(items, len, limit_bytes)]
    assert [item for part in parts for item in part] == items
    assert all(parts)
    assert all(len(part) == 1 or sum(map(len, part)) <= limit_bytes for part in parts)
    for part, following in pairwise(parts):
        assert sum(map(len, part)) + len(following[0]) > limit_bytes
