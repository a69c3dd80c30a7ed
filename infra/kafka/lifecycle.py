"""`lifecycle` as everybody reads it: followed from its start, folded by one state machine, kept in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import decode_event, encode_event
from schemas.envelope import Event
from schemas.errors import Fatal, Rejectable, Retryable
from schemas.lifecycle_state import Outcome, apply
from schemas.tenant_state import LifecycleState
from schemas.topics import LIFECYCLE, record_key

log = logging.getLogger(__name__)

_EMPTY = LifecycleState()
Listener = Callable[[str, Event, Outcome, LifecycleState], None]


class LifecycleTail:
    """Follows `lifecycle` and answers from memory.

    Guarantees: `state` holds every event up to `position`; events of a tenant are applied in the order of
    the log, each once. One task reads; all methods are for the loop that started it. If reading ends with an
    error, `failure` holds it and waiting raises Fatal: a process that no longer follows must not serve.
    """

    def __init__(self, bootstrap: str, *, on_event: Listener | None = None) -> None:
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        self._on_event = on_event
        self._states: dict[str, LifecycleState] = {}
        self._position: dict[int, int] = {}
        self._end_at_start: dict[int, int] = {}
        self._expected: dict[tuple[str, str, str], list[asyncio.Future[Outcome]]] = {}
        self._changed = asyncio.Condition()
        self._task: asyncio.Task[None] | None = None
        self.failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        await self._consumer.start()
        partitions = await self._partitions()
        self._consumer.assign(partitions)
        await self._consumer.seek_to_beginning(*partitions)
        self._end_at_start = {
            tp.partition: n for tp, n in (await self._consumer.end_offsets(partitions)).items()
        }
        for tp in partitions:
            self._position[tp.partition] = await self._consumer.position(tp)
        self._task = asyncio.create_task(self._follow(), name="lifecycle-tail")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._consumer.stop()

    async def _partitions(self) -> list[TopicPartition]:
        known = self._consumer.partitions_for_topic(LIFECYCLE)
        if known is None:
            await self._consumer.topics()
            known = self._consumer.partitions_for_topic(LIFECYCLE)
        if not known:
            raise Retryable(f"topic {LIFECYCLE!r} does not exist yet; create the topics first")
        return [TopicPartition(LIFECYCLE, number) for number in sorted(known)]

    async def _follow(self) -> None:
        try:
            while True:
                fetched = await self._consumer.getmany(timeout_ms=500)
                if not fetched:
                    continue
                async with self._changed:
                    for tp, records in fetched.items():
                        for record in records:
                            self._take(tp.partition, record.offset, record.value)
                    self._changed.notify_all()
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.failure = error
            log.exception("the lifecycle can no longer be followed")
            async with self._changed:
                self._changed.notify_all()

    def _take(self, partition: int, offset: int, value: bytes | None) -> None:
        outcome = Outcome(False, "unreadable: this code cannot decode the record")
        try:
            event = decode_event(value or b"")
            state, outcome = apply(self._states.get(event.tenant, _EMPTY), event)
        except Rejectable as rejected:
            log.error(
                "lifecycle record skipped",
                extra={"partition": partition, "offset": offset, "why": str(rejected)},
            )
        else:
            self._states[event.tenant] = state
            if self._on_event is not None:
                self._on_event(event.tenant, event, outcome, state)
            for future in self._expected.pop((event.tenant, event.source, event.id), ()):
                if not future.done():
                    future.set_result(outcome)
        self._position[partition] = offset + 1

    @property
    def caught_up(self) -> bool:
        """Everything that was in the log at start has been read."""
        return self.failure is None and all(
            self._position.get(p, 0) >= n for p, n in self._end_at_start.items()
        )

    def current(self, tenant: str) -> LifecycleState:
        """The tenant's state as far as it was read."""
        return self._states.get(tenant, _EMPTY)

    def tenants(self) -> Sequence[str]:
        """Tenants that have a lifecycle."""
        return tuple(self._states)

    async def wait_caught_up(self) -> None:
        """Return once all that was in the log at start is read. Raises Fatal if reading ended."""
        async with self._changed:
            while not self.caught_up:
                self._check()
                # a topic without a record wakes nobody
                await _wait(self._changed, 0.5)

    async def state(self, tenant: str) -> LifecycleState:
        """The state after every event that is in the log now."""
        ends = await self._consumer.end_offsets([TopicPartition(LIFECYCLE, p) for p in self._position])
        async with self._changed:
            while any(self._position[tp.partition] < end for tp, end in ends.items()):
                self._check()
                await _wait(self._changed, 0.5)
        return self.current(tenant)

    async def changed(self, timeout_s: float) -> None:
        """Return after the next batch of events, or after `timeout_s`."""
        async with self._changed:
            self._check()
            await _wait(self._changed, timeout_s)

    def expect(self, event: Event) -> asyncio.Future[Outcome]:
        """How the next record of this event is taken. Ask before sending, so that none is missed."""
        future = asyncio.get_running_loop().create_future()
        self._expected.setdefault((event.tenant, event.source, event.id), []).append(future)
        return future

    def _check(self) -> None:
        if self.failure is not None:
            raise Fatal(f"the lifecycle can no longer be followed: {self.failure}") from self.failure


async def _wait(condition: asyncio.Condition, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            await condition.wait()
    except TimeoutError:
        pass


class KafkaLifecycleLog:
    """The `LifecycleLog` port over a tail and a producer: append, then read back."""

    def __init__(self, tail: LifecycleTail, producer: AIOKafkaProducer, *, deadline_s: float = 30.0) -> None:
        self._tail = tail
        self._producer = producer
        self._deadline_s = deadline_s

    def tenants(self) -> Sequence[str]:
        """Tenants with a lifecycle."""
        return self._tail.tenants()

    async def state(self, tenant: str) -> LifecycleState:
        """The state after every event that is in the log now."""
        return await self._tail.state(tenant)

    async def append(self, event: Event) -> Outcome:
        """Append with `acks=all` and say how the state machine took it.

        Raises Retryable if it was not confirmed and read back within the deadline. Appending the same event
        again is safe: the second is ignored as repeated.
        """
        taken = self._tail.expect(event)
        try:
            async with asyncio.timeout(self._deadline_s):
                await self._producer.send_and_wait(
                    LIFECYCLE, encode_event(event), key=record_key(event.tenant, None)
                )
                return await taken
        except (TimeoutError, KafkaError) as error:
            raise Retryable(
                f"{event.type} was not confirmed and read back within {self._deadline_s} s ({error!r}); "
                "read the state, then send the same event again"
            ) from error
        finally:
            taken.cancel()
