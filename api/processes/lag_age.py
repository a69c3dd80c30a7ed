"""How long the oldest uncommitted record has waited, from what is looked at anyway: offsets.

The end of a partition, seen at a time, dates the record that comes there: it is younger than that look and
older than the next. So ages come without reading a record, to the precision of the looks.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from msgspec import Struct

#: Marks that a partition keeps; beyond, every second one is dropped, and a long stall is dated more coarsely.
_MARKS: Final = 512


class _Mark(Struct):
    """An end of the partition: what lies before `offset` came until `first_s`, the rest after `last_s`."""

    offset: int
    first_s: float
    last_s: float


class LagAge:
    """The age of one partition's lag. Not for concurrent use.

    Before the first look it knows nothing: `note` says what was read elsewhere. A record between two marks
    is dated between their times, as if records had come evenly.
    """

    def __init__(self) -> None:
        self._marks: list[_Mark] = []

    def note(self, offset: int, time_s: float) -> None:
        """At `time_s` all before `offset` had come and nothing else; or the record there came just then."""
        if not self._marks or offset > self._marks[-1].offset:
            self._marks.append(_Mark(offset, time_s, time_s))
        elif offset == self._marks[-1].offset:
            self._marks[-1].last_s = time_s
        if len(self._marks) > _MARKS:
            del self._marks[1:-1:2]

    def look(self, committed: int, end: int, now_s: float) -> float:
        """Seconds that the record at `committed` has waited; 0 if there is none. Offsets only grow."""
        if committed >= end:
            self._marks = [_Mark(end, now_s, now_s)]
            return 0.0
        if not self._marks:
            self.note(committed, now_s)  # at least since now
        self.note(end, now_s)
        del self._marks[: self._before(committed)]
        return max(0.0, now_s - self._date(committed))

    def _before(self, offset: int) -> int:
        """Index of the last mark at or before `offset`; 0 if there is none."""
        return max(0, bisect_right(self._marks, offset, key=lambda mark: mark.offset) - 1)

    def _date(self, offset: int) -> float:
        first = self._marks[0]
        if len(self._marks) == 1 or offset <= first.offset:
            return first.last_s
        after = self._marks[1]
        share = (offset - first.offset) / (after.offset - first.offset)
        return first.last_s + share * (after.first_s - first.last_s)
