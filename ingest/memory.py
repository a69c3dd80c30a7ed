"""A log in memory: a real append-only log for tests and for trying doors without a broker."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.ports import CONFIRMED, Appended
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
