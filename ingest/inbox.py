"""The inbox: events that applications write to Kafka themselves, admitted and keyed anew.

Their topic says whose they are; their key says nothing, because not every client spreads keys as we do. What
they become goes to our own topics before the inbox is committed, so whoever is killed in between takes the
same records again: the same events, repeats.

Received time (stamped once, at admission) is the broker's append time where the topic has it, for then a
record that is taken twice gives the very same bytes. Elsewhere the time of a record is its sender's clock,
which says nothing of when we received it: it is stamped here, and a record that is taken twice is the same
event, received twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from ingest.formats.items import Item
from ingest.formats.kafka import is_attribute, read_message
from ingest.formats.registry import CLOUDEVENTS, FORMAT_HEADER
from ingest.intake import Arrival, Intake, Receipt
from ingest.ports import InboxRecord
from schemas.errors import Retryable

KAFKA_DOOR: Final = "kafka"
#: What is kept of a record's own headers beside a rejection.
_KEPT_HEADERS: Final = 20
_KEPT_CHARACTERS: Final = 500

Observe = Callable[[Receipt, int], None]


class InboxTaker:
    """Takes in what `Inbox.fetch` gave.

    Guarantee: `take` returns only when every record is in the log, as an event or as a rejection, or says
    nothing (a tombstone). Loses nothing, and counts nothing twice, if it is killed and the same records come
    again. For one caller at a time.
    """

    def __init__(
        self,
        intake: Intake,
        *,
        now: Callable[[], dt.datetime],
        pause: Callable[[float], Awaitable[None]],
        observe: Observe = lambda _receipt, _ignored: None,
        tries: int = 20,
    ) -> None:
        self._intake = intake
        self._now = now
        self._pause = pause
        self._observe = observe
        self._tries = tries
        self._last_stamped = dt.datetime.min.replace(tzinfo=dt.UTC)

    async def take(self, records: Sequence[InboxRecord]) -> None:
        """Take these in. Raises Retryable if some are still unconfirmed after all tries; Fatal."""
        by_tenant: dict[str, list[InboxRecord]] = {}
        for record in records:
            by_tenant.setdefault(record.tenant, []).append(record)
        for tenant, of_tenant in by_tenant.items():
            await self._take(tenant, of_tenant)

    async def _take(self, tenant: str, records: Sequence[InboxRecord]) -> None:
        read = [(record, read_message(record.headers, record.value)) for record in records]
        left = [
            (item, Arrival(self._received(record), kept_headers(record)))
            for record, item in read
            if item is not None
        ]
        ignored = len(records) - len(left)
        for _ in range(self._tries):
            receipt = await self._intake.take(
                [item for item, _ in left],
                tenant=tenant,
                door=KAFKA_DOOR,
                received=self._now(),
                arrivals=[arrival for _, arrival in left],
            )
            self._observe(receipt, ignored)
            ignored = 0
            left = _unconfirmed(left, receipt)
            if not left:
                return
            await self._pause(receipt.retry_after_s or 1.0)
        raise Retryable(
            f"the log does not confirm {len(left)} records of the inbox of {tenant!r} after {self._tries} "
            "tries; nothing of the batch is committed, and it is read again"
        )

    def _received(self, record: InboxRecord) -> dt.datetime:
        if record.appended is not None:
            # The broker's time has milliseconds, and records of one batch share it: those of a partition
            # keep their order within it. Made of the record alone, so the same when it is taken again.
            return record.appended + dt.timedelta(microseconds=record.offset % 1000)
        self._last_stamped = max(self._now(), self._last_stamped + dt.timedelta(microseconds=1))
        return self._last_stamped


def kept_headers(record: InboxRecord) -> dict[str, str]:
    """What is kept beside a rejection: where the record was, and its headers that are not the event."""
    own: dict[str, str] = {}
    for name, value in record.headers:
        if len(own) < _KEPT_HEADERS and (not is_attribute(name) or name.lower() == "content-type"):
            text = (value or b"")[:_KEPT_CHARACTERS].decode("utf-8", "replace")
            own[name[:_KEPT_CHARACTERS].lower()] = text
    position = f"{record.topic}/{record.partition}/{record.offset}"
    return {**own, "position": position, FORMAT_HEADER: CLOUDEVENTS.name}


def _unconfirmed(left: Sequence[tuple[Item, Arrival]], receipt: Receipt) -> list[tuple[Item, Arrival]]:
    return [left[one.index] for one in receipt.results if one.status == "unconfirmed"]
