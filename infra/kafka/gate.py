"""The append side of the log behind a gate: closed while a topic gets more partitions.

Every process that appends to `interactions`, `documents` or `rejected` for somebody outside follows
`lifecycle`; `ratchet.topic.closed` and `.opened` of tenant `platform` tell it to stop and to go on. So two
replicas close, and whoever starts meanwhile reads that it is closed before it takes anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from ingest.ports import Appended, EventLog
from schemas.envelope import Event
from schemas.errors import Retryable
from schemas.registry import BY_NAME
from schemas.tenant_state import LifecycleState
from schemas.topics import PLATFORM

_RETRY_S: Final = 2.0


class FollowedLifecycle(Protocol):
    """What a gate reads: `LifecycleTail`."""

    @property
    def caught_up(self) -> bool:
        """All that was in the log at start has been read."""
        ...

    def current(self, tenant: str) -> LifecycleState:
        """The tenant's state as far as it was read; the same object until it changes."""
        ...


class PartitionedLog(EventLog, Protocol):
    """What a gate keeps: `KafkaEventLog`."""

    async def count_partitions(self, seen: Mapping[str, int]) -> None:
        """Spread keys over the partitions that there are now, at least `seen`. Raises Retryable."""
        ...


class GatedEventLog:
    """`EventLog` that appends nothing to a closed topic, and nothing before the lifecycle was read once.

    Guarantee: an append that begins after the tail has read `topic.opened` spreads keys over the partitions
    that it names. An append that was under way when the topic closed is finished as it began.
    """

    def __init__(self, log: PartitionedLog, lifecycle: FollowedLifecycle) -> None:
        self._log = log
        self._lifecycle = lifecycle
        self._state: LifecycleState | None = None
        self._counting = asyncio.Lock()

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        """See the port; Retryable as long as one of the topics is closed."""
        if self._lifecycle.current(PLATFORM) is not self._state:
            await self._look()
        assert self._state is not None
        if self._state.closed:
            topics = {BY_NAME[event.type].topic for event in events} & self._state.closed.keys()
            if topics:
                raise Retryable(
                    f"topic {min(topics)!r} is closed while it gets more partitions; send the whole request "
                    "again with the same ids",
                    retry_after_s=_RETRY_S,
                )
        return await self._log.append(events)

    async def _look(self) -> None:
        async with self._counting:
            if not self._lifecycle.caught_up:
                raise Retryable("the lifecycle has not been read to its end yet", retry_after_s=1.0)
            state = self._lifecycle.current(PLATFORM)
            before = {} if self._state is None else self._state.partitions
            if state.partitions != before:
                await self._log.count_partitions(state.partitions)
            self._state = state
