"""Records that lie in another partition than their key's: passed on to it, and folded there.

When a topic got more partitions, its keys moved. Of a query whose records lie in two partitions, two workers
could fold a part each at the same moment, and neither would see the other's. So only the partition that a key
belongs to now is folded; a record elsewhere is appended there again, as it is. The same record twice is one
record (L3). This is rare: topics are raised when nothing waits, so only a writer that slept meanwhile, or
offsets that were set back, leave any.

A record that cannot be read belongs to no query: it is rejected where it lies, dated by when Kafka got it.
Passed on it would be dated anew, and one that is passed on twice would count as two.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Final, Protocol

from schemas.errors import Rejectable
from schemas.topics import INTERACTIONS, TOPICS
from streams.batch import BatchProcessor, BatchReport
from streams.persistence import persist
from streams.ports import Message, RecordLookup, RejectedLog, RowSink
from streams.rejecting import read_message
from streams.settings import StreamSettings
from streams.waiting import ReferenceResolver

_DECLARED: Final = {topic.name: topic.partitions for topic in TOPICS}


class Placement(Protocol):
    """Where keys belong, as the log knows it."""

    async def partitions(self, topic: str) -> int:
        """How many the topic has now. Raises Retryable."""
        ...

    def partition_of(self, key: bytes, partitions: int) -> int:
        """The partition of this key among so many."""
        ...

    async def forward(self, messages: Sequence[Message], partitions: int) -> None:
        """Append these records where they belong, unchanged. Durable on return; raises Retryable."""
        ...


class PlacedBatchProcessor(BatchProcessor):
    """A `BatchProcessor` that folds the records of `interactions` only where they belong.

    Other topics are written record by record: it does not matter where these lie. Partitions are counted
    after every assignment, before anything of it is folded, so all workers of a generation count alike.
    """

    def __init__(
        self,
        sink: RowSink,
        lookup: RecordLookup,
        rejected: RejectedLog,
        settings: StreamSettings,
        *,
        placement: Placement,
        resolver: ReferenceResolver | None = None,
    ) -> None:
        super().__init__(sink, lookup, rejected, settings, resolver=resolver)
        self._placement = placement
        self._for_s = settings.retry_for_s
        self._partitions: int | None = None
        #: Records passed on so far.
        self.forwarded = 0

    def forget(self) -> None:
        """As `BatchProcessor`; partitions are counted anew."""
        super().forget()
        self._partitions = None

    async def process(self, topic: str, messages: Sequence[Message]) -> BatchReport:
        """As `BatchProcessor`; misplaced records are in their own partition when it returns."""
        if topic == INTERACTIONS:
            messages = await self._keep(messages)
        return await super().process(topic, messages)

    async def _keep(self, messages: Sequence[Message]) -> Sequence[Message]:
        if self._partitions is None:
            self._partitions = await persist(
                functools.partial(self._placement.partitions, INTERACTIONS),
                doing="counting partitions",
                retry_for_s=self._for_s,
            )
        partitions = self._partitions
        if partitions == _DECLARED[INTERACTIONS]:
            return messages  # never raised: every key is where it always was
        of = self._placement.partition_of
        misplaced = [m for m in messages if of(m.key, partitions) != m.partition and _is_readable(m)]
        if misplaced:
            await persist(
                functools.partial(self._placement.forward, misplaced, partitions),
                doing="passing records on to their partition",
                retry_for_s=self._for_s,
            )
            self.forwarded += len(misplaced)
        passed_on = {(m.partition, m.offset) for m in misplaced}
        return [m for m in messages if (m.partition, m.offset) not in passed_on]


def _is_readable(message: Message) -> bool:
    try:
        read_message(message)
    except Rejectable:
        return False
    return True
