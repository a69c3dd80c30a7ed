"""`lifecycle` as everybody reads it: followed from its start, folded by one state machine, kept in memory."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from infra.kafka.producer import LOST_COUNT, lost_count
from infra.kafka.tail import TopicTail
from schemas.codec import decode_event, encode_event
from schemas.envelope import Event
from schemas.errors import Rejectable, Retryable
from schemas.lifecycle_state import Outcome, apply
from schemas.tenant_state import LifecycleState
from schemas.topics import LIFECYCLE, PLATFORM, record_key

log = logging.getLogger(__name__)

_EMPTY = LifecycleState()
Listener = Callable[[Event, Outcome, LifecycleState], None]


class LifecycleTail:
    """The state of every tenant, from memory.

    Guarantees: events of a tenant are applied in the order of the log, each once; `on_event` is called after
    the state changed, with how the event was taken.
    """

    def __init__(self, bootstrap: str, *, on_event: Listener | None = None) -> None:
        self._topic = TopicTail(bootstrap, LIFECYCLE, self._take)
        self._on_event = on_event
        self._states: dict[str, LifecycleState] = {}
        self._expected: dict[tuple[str, str, str], list[asyncio.Future[Outcome]]] = {}

    async def __aenter__(self) -> Self:
        await self._topic.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._topic.__aexit__(kind, error, trace)

    def _take(self, partition: int, offset: int, value: bytes) -> None:
        try:
            event = decode_event(value)
            state, outcome = apply(self._states.get(event.tenant, _EMPTY), event)
        except Rejectable as rejected:
            # The stream worker keeps such a record in `rejected`; here it changes nothing.
            log.error("lifecycle record %s:%s skipped: %s", partition, offset, rejected)
            return
        self._states[event.tenant] = state
        if self._on_event is not None:
            self._on_event(event, outcome, state)
        for future in self._expected.pop((event.tenant, event.source, event.id), ()):
            if not future.done():
                future.set_result(outcome)

    @property
    def caught_up(self) -> bool:
        """Everything that was in the log at start has been read."""
        return self._topic.caught_up

    @property
    def failure(self) -> BaseException | None:
        """Why the topic can no longer be followed, or None."""
        return self._topic.failure

    def current(self, tenant: str) -> LifecycleState:
        """The tenant's state as far as it was read."""
        return self._states.get(tenant, _EMPTY)

    def tenants(self) -> Sequence[str]:
        """Tenants that have a lifecycle; what concerns all of them is nobody's."""
        return tuple(tenant for tenant in self._states if tenant != PLATFORM)

    async def wait_caught_up(self) -> None:
        """Return once all that was in the log at start is read. Raises Fatal if reading ended."""
        await self._topic.wait_caught_up()

    async def state(self, tenant: str) -> LifecycleState:
        """The state after every event that is in the log now. Raises Fatal if reading ended."""
        await self._topic.read_to_end()
        return self.current(tenant)

    async def wait_changed(self, timeout_s: float) -> None:
        """Return after the next events, or after `timeout_s`. Raises Fatal if reading ended."""
        await self._topic.wait_changed(timeout_s)

    def expect(self, event: Event) -> asyncio.Future[Outcome]:
        """How the next record of this event is taken. Ask before sending, so that none is missed."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._expected.setdefault((event.tenant, event.source, event.id), []).append(future)
        return future


class KafkaLifecycleLog:
    """The learner's `LifecycleLog` over a tail and a producer: append, then read back."""

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

        Raises Retryable if it was not confirmed and read back within the deadline, Fatal if this producer
        will get nothing confirmed any more. Appending the same event again is safe: the second is ignored
        as repeated.
        """
        taken = self._tail.expect(event)
        try:
            async with asyncio.timeout(self._deadline_s):
                key = record_key(event.tenant, None)
                await self._producer.send_and_wait(LIFECYCLE, encode_event(event), key=key)
                return await taken
        except LOST_COUNT as error:
            raise lost_count() from error
        except (TimeoutError, KafkaError) as error:
            raise Retryable(
                f"{event.type} was not confirmed and read back within {self._deadline_s} s ({error!r}); "
                "read the state, then send the same event again"
            ) from error
        finally:
            taken.cancel()
