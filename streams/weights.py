"""Batches cut by bytes: a batch is bounded in records, what takes its rows is bounded in bytes. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

_T = TypeVar("_T")

#: What one query may hold. One that is sent as `undefined`, or as the same word for every question, would
#: else grow for ever, and with it the time of every batch that touches it.
EPISODE_RECORDS: Final = 10_000
EPISODE_BYTES: Final = 64 * 1024 * 1024
#: Records of one insert. The laptop's engine takes no body above 256 MiB.
INSERT_BYTES: Final = 32 * 1024 * 1024
#: Entries of one append. The log takes no more than 64 MiB in flight, and four topics may append at once.
APPEND_BYTES: Final = 16 * 1024 * 1024


def cut_by_bytes(items: Sequence[_T], size: Callable[[_T], int], limit_bytes: int) -> Iterator[Sequence[_T]]:
    """The items in order, in parts of at most `limit_bytes`; what is larger is a part of its own.

    `size` gives an item's bytes. No items give no part.
    """
    first = part_bytes = 0
    for place, item in enumerate(items):
        item_bytes = size(item)
        if place > first and part_bytes + item_bytes > limit_bytes:
            yield items[first:place]
            first, part_bytes = place, 0
        part_bytes += item_bytes
    if first < len(items):
        yield items[first:]
