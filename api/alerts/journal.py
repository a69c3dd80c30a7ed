"""Alerts in the lifecycle of the platform: `alert.raised`, `alert.cleared`.

The lifecycle is brought to what is raised, again and again, so a Kafka that was away misses no alert that
still stands when it is back. One that came and went meanwhile is in the webhook's receiver only.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Final, Protocol

from api.alerts.firing import Raised
from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.ids import derive_id, step_id
from schemas.lifecycle import AlertCleared, AlertRaised
from schemas.lifecycle_state import Outcome
from schemas.registry import BY_PAYLOAD
from schemas.tenant_state import LifecycleState
from schemas.topics import PLATFORM

SOURCE: Final = "urn:ratchet:alerts"
DOOR: Final = "alerts"


class AlertLog(Protocol):
    """The lifecycle: read to its end, appended to, read back."""

    async def state(self, tenant: str) -> LifecycleState:
        """The state after every event that is in the log now. Raises Retryable, Fatal."""
        ...

    async def append(self, event: Event) -> Outcome:
        """Append and say how the event was taken. Raises Retryable, Fatal."""
        ...


async def raised_before(log: AlertLog) -> Collection[str]:
    """Keys of the alerts that the lifecycle has as raised."""
    return (await log.state(PLATFORM)).alerts.keys()


async def reconcile(log: AlertLog, raised: Mapping[str, Raised], now: dt.datetime) -> int:
    """Append what the lifecycle lacks; how many events that were. Raises Retryable, Fatal: do it again.

    Doing it again changes nothing: ids are derived, and a second `alert.raised` is ignored.
    """
    known = (await log.state(PLATFORM)).alerts
    steps = [_raise(raised[key], now) for key in sorted(raised.keys() - known.keys())]
    steps += [_clear(key, known[key], now) for key in sorted(known.keys() - raised.keys())]
    for event in steps:
        await log.append(event)
    return len(steps)


def _raise(one: Raised, now: dt.datetime) -> Event:
    return seal_event(
        AlertRaised(alert=one.key, summary=one.summary, value=one.value),
        id=derive_id("alert", one.key, repr(one.since_s)),
        source=SOURCE,
        tenant=PLATFORM,
        recordedtime=now,
        time=dt.datetime.fromtimestamp(one.since_s, dt.UTC),
        door=DOOR,
    )


def _clear(key: str, raised_by: str, now: dt.datetime) -> Event:
    return seal_event(
        AlertCleared(alert=key),
        id=step_id(raised_by, BY_PAYLOAD[AlertCleared].name),
        source=SOURCE,
        tenant=PLATFORM,
        recordedtime=now,
        door=DOOR,
        causationid=raised_by,
    )
