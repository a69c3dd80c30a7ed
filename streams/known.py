"""The records of recently touched queries, so that most events need no look-up."""

from __future__ import annotations

from collections import OrderedDict

from streams.ports import QueryKey

#: Records as on the topic. Bytes, not structs, so that the bound on memory can be counted exactly; a record
#: that is touched again is decoded again.
RecordValues = tuple[bytes, ...]


class KnownRecords:
    """Whole sets of stored records, the least recently used dropped first.

    A set is here only if it is *all* that is stored of its query, so it must be forgotten whenever another
    worker may have written: at every assignment and revocation of partitions.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._sets: OrderedDict[QueryKey, RecordValues] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._sets)

    def get(self, query: QueryKey) -> RecordValues | None:
        """All stored records of the query, or None if they have to be looked up."""
        found = self._sets.get(query)
        if found is not None:
            self._sets.move_to_end(query)
        return found

    def put(self, query: QueryKey, values: RecordValues) -> None:
        """Keep what is stored now."""
        self.drop(query)
        self._sets[query] = values
        self._bytes += sum(map(len, values))
        while self._bytes > self._max_bytes:
            _, dropped = self._sets.popitem(last=False)
            self._bytes -= sum(map(len, dropped))

    def drop(self, query: QueryKey) -> None:
        """Forget one query."""
        self._bytes -= sum(map(len, self._sets.pop(query, ())))

    def forget(self) -> None:
        """Forget everything."""
        self._sets.clear()
        self._bytes = 0
