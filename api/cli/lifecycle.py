"""The lifecycle as a command sees it: read to its end, and a person's step appended and read back."""

from __future__ import annotations

import asyncio
import getpass
import logging
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import click
from msgspec import Struct

from api.processes.identity import mint_id, now
from api.settings import Settings
from schemas.codec import decode_payload, seal_event
from schemas.envelope import Event
from schemas.errors import Fatal, Retryable
from schemas.lifecycle_state import Outcome
from schemas.tenant_state import LifecycleState

if TYPE_CHECKING:
    from infra.kafka.lifecycle import LifecycleTail

_READ_S: Final = 60.0


class Step(NamedTuple):
    """One event of a tenant's lifecycle, and whether it counted."""

    event: Event
    payload: Struct
    outcome: Outcome


class History(NamedTuple):
    """A tenant's lifecycle up to now, and what is true after it."""

    steps: Sequence[Step]
    state: LifecycleState

    def find(self, event_id: str) -> Step | None:
        """The step with this event id that counted, else the first one, or None."""
        found = [step for step in self.steps if step.event.id == event_id]
        return next((step for step in found if step.outcome.accepted), found[0] if found else None)

    def causes(self, event_id: str) -> list[Step]:
        """What led to this event, earliest first, the event itself last; empty if it is unknown."""
        chain: list[Step] = []
        seen: set[str] = set()
        wanted: str | None = event_id
        while wanted and wanted not in seen:
            seen.add(wanted)
            step = self.find(wanted)
            if step is None:
                break
            chain.append(step)
            wanted = step.event.causationid
        return chain[::-1]

    def consequences(self, event_ids: Iterable[str]) -> list[Step]:
        """Everything that has one of these events among its causes, in the order of the log."""
        reached = set(event_ids)
        found = []
        for step in self.steps:
            if step.event.causationid in reached and step.event.id not in reached:
                found.append(step)
                reached.add(step.event.id)
        return found


#: The step that a person orders: the payload and the event that it acts on ('' if on none).
Order = Callable[[History], tuple[Struct, str]]


def person_source() -> str:
    """CloudEvents source of what a person orders here."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "unknown"
    return f"urn:ratchet:person:{name}"


def command_line() -> str:
    """The command as it was typed, without where: the cause of a step that acts on no event."""
    typed = list(sys.argv[1:])
    while typed and typed[0].startswith("-"):  # -C DIRECTORY, --directory=DIRECTORY
        del typed[: 1 if "=" in typed[0] or (typed[0].startswith("-C") and typed[0] != "-C") else 2]
    return shlex.join(["ratchet", *typed])


def read_history(settings: Settings, tenant: str) -> History:
    """The tenant's lifecycle up to now. Raises Retryable if no broker answers."""

    async def read() -> History:
        async with followed(settings, tenant) as (_, history):
            return await history()

    return asyncio.run(read())


def order_step(settings: Settings, tenant: str, order: Order) -> tuple[Step, History]:
    """Append the step that `order` makes of the present state; the step as taken, and the history after it.

    `order` may raise a click error. Raises Retryable if the step was not confirmed and read back.
    """

    async def run() -> tuple[Step, History]:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        from infra.kafka.lifecycle import KafkaLifecycleLog

        async with followed(settings, tenant) as (tail, history):
            payload, cause = order(await history())
            event = seal_event(
                payload,
                id=mint_id(),
                source=person_source(),
                tenant=tenant,
                recordedtime=now(),
                door="cli",
                causationid=cause or command_line(),
            )
            producer = AIOKafkaProducer(
                bootstrap_servers=settings.kafka.bootstrap, acks="all", enable_idempotence=True
            )
            try:
                await producer.start()
                outcome = await KafkaLifecycleLog(tail, producer).append(event)
            except KafkaError as error:
                raise Retryable(f"no Kafka broker answers at {settings.kafka.bootstrap}") from error
            finally:
                await producer.stop()
            return Step(event, payload, outcome), await history()

    return asyncio.run(run())


def carry_out(settings: Settings, tenant: str, order: Order) -> History:
    """`order_step`; a step that the state machine ignores is an error with its reason (exit code 1)."""
    step, history = order_step(settings, tenant, order)
    if not step.outcome.accepted:
        raise click.ClickException(
            f"{step.event.type} is in the log but was ignored: {step.outcome.reason} (event {step.event.id})"
        )
    return history


@asynccontextmanager
async def followed(
    settings: Settings, tenant: str, listener: Callable[[Step], None] | None = None
) -> AsyncIterator[tuple[LifecycleTail, Callable[[], Awaitable[History]]]]:
    """A tail of the lifecycle, and a function that reads the tenant's history up to now."""
    from aiokafka.errors import KafkaError

    from infra.kafka.lifecycle import LifecycleTail

    # what goes wrong is said in one sentence below
    for name in ("aiokafka", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    steps: list[Step] = []

    def take(event: Event, outcome: Outcome, _: LifecycleState) -> None:
        if event.tenant == tenant:
            step = Step(event, decode_payload(event), outcome)
            steps.append(step)
            if listener is not None:
                listener(step)

    tail = LifecycleTail(settings.kafka.bootstrap, on_event=take)

    async def history() -> History:
        async with asyncio.timeout(_READ_S):
            state = await tail.state(tenant)
        return History(tuple(steps), state)

    try:
        async with tail:
            yield tail, history
    except (KafkaError, Fatal, TimeoutError) as error:
        raise Retryable(
            f"the lifecycle cannot be read from Kafka at {settings.kafka.bootstrap} ({error!r}): "
            "`ratchet status` shows what runs, `ratchet up` starts it"
        ) from error
