"""A log and an inbox in memory: real ones, for tests and for trying doors without a broker."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.ports import CONFIRMED, Appended, InboxRecord
from schemas.codec import encode_event
from schemas.envelope import Event
from schemas.registry import BY_NAME
from schemas.topics import record_key


class MemoryEventLog:
    """Keeps records in lists by topic, in the order of appending. Lost with the process.

    `confirming = False` makes it behave like a broker that does not answer: records may be there, but
    nothing is confirmed.
    """

    def __init__(self) -> None:
        self.confirming = True
        #: Topic → (key, value) in order.
        self.records: dict[str, list[tuple[bytes, bytes]]] = {}

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        """Stores every event; confirms all or, when not `confirming`, none."""
        for event in events:
            record = record_key(event.tenant, event.subject), encode_event(event)
            self.records.setdefault(BY_NAME[event.type].topic, []).append(record)
        result = CONFIRMED if self.confirming else Appended(False, "the log does not answer")
        return [result] * len(events)


class MemoryInbox:
    """An `Inbox` of one member. `lose_member` is what a kill does: what is not committed comes again."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, int], list[InboxRecord]] = {}
        self._read: dict[tuple[str, int], int] = {}
        self.committed: dict[tuple[str, int], int] = {}

    def put(self, record: InboxRecord) -> None:
        """Append a record; it must have the next offset of its partition."""
        records = self._records.setdefault((record.topic, record.partition), [])
        assert record.offset == len(records)
        records.append(record)

    def lose_member(self) -> None:
        """Read on from what is committed."""
        self._read = dict(self.committed)

    async def fetch(self, timeout_s: float) -> Sequence[InboxRecord]:  # noqa: ARG002 - nothing will come
        """All that was not fetched yet, at once."""
        found: list[InboxRecord] = []
        for place, records in self._records.items():
            found += records[self._read.get(place, 0) :]
            self._read[place] = len(records)
        return found

    async def commit(self, records: Sequence[InboxRecord]) -> None:
        """See the port."""
        for record in records:
            place = record.topic, record.partition
            self.committed[place] = max(self.committed.get(place, 0), record.offset + 1)
