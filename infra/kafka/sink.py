"""All or nothing over the append side of the log: for writers who have nobody to hand a half to."""

from __future__ import annotations

from collections.abc import Sequence

from ingest.ports import EventLog
from schemas.envelope import Event
from schemas.errors import Retryable


class KafkaEventSink:
    """All events of a call are durable, or the call raises.

    Serves as `EventSink` of the learners and as `RejectedLog` of the streams.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log

    async def append(self, events: Sequence[Event]) -> None:
        """Return once all are durable. Raises Retryable if one is late, Fatal if none can ever be."""
        results = await self._log.append(events)
        late = [result.detail for result in results if not result.confirmed]
        if late:
            raise Retryable(f"{len(late)} of {len(events)} events are not confirmed: {late[0]}")
