"""A column of arrays, flat: all items after one another, and where each row's array ends.

Stores want it so, and so it is made with one loop over the items instead of one a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, overload

import numpy as np

Ends = np.ndarray[Any, np.dtype[np.uint64]]


class Arrays(Sequence[list[Any]]):
    """`ends[i]` items lie before the end of row `i`. `items` may be `Arrays` themselves: arrays of arrays."""

    __slots__ = ("ends", "items")

    def __init__(self, ends: Ends, items: Sequence[Any]) -> None:
        self.ends: Final = ends
        self.items: Final = items

    def tolist(self) -> list[list[Any]]:
        """A list a row."""
        items = self.items.tolist() if isinstance(self.items, Arrays) else list(self.items)
        rows, start = [], 0
        for end in self.ends.tolist():
            rows.append(items[start:end])
            start = end
        return rows

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> list[Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.tolist()[index]

    def __eq__(self, other: object) -> bool:
        return self.tolist() == (other.tolist() if isinstance(other, Arrays) else other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(self.tolist())


def flatten(groups: Iterable[Sequence[Any]]) -> tuple[Ends, list[Any]]:
    """All members of the groups, in order, and where each group ends among them."""
    groups = list(groups)
    return np.cumsum([len(group) for group in groups], dtype=np.uint64), list(chain.from_iterable(groups))
