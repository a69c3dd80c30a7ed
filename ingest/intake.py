"""Taking in: admit every event, append what was admitted and what was refused, say what became of each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from ingest.admission import Admission, Rejection, readable_names
from ingest.formats.items import Item, Undecoded
from ingest.naming import name_of
from ingest.ports import Appended, EventLog
from ingest.refusals import shorten
from ingest.rejections import rejected_event
from ingest.settings import IngestSettings
from schemas.envelope import Event
from schemas.errors import Retryable

Status = Literal["accepted", "rejected", "unconfirmed"]


class Outcome(Struct, frozen=True, omit_defaults=True, gc=False):
    """What became of one event of a request.

    `accepted`, `rejected`: durable, here or in `rejected`. `unconfirmed`: not known; send it again with
    the same id.
    """

    index: int
    id: str
    source: str
    status: Status
    reason: str = ""
    field: str = ""
    message: str = ""


class Receipt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of a request, event by event, in its order."""

    accepted: int
    rejected: int
    unconfirmed: int = 0
    results: tuple[Outcome, ...]
    #: Seconds after which sending again makes sense; None if everything is confirmed.
    retry_after_s: float | None = None


class Arrival(Struct, frozen=True, gc=False):
    """When one item of several came, and what `rejected` keeps beside it if it is refused."""

    received: dt.datetime
    headers: Mapping[str, str] = {}


class Intake:
    """The use case behind every door.

    Guarantee (L1, L2): an outcome is `accepted` or `rejected` only after the log confirmed the event, or the
    rejection with the original bytes. Doors do not look for duplicates: folding does.
    """

    def __init__(self, log: EventLog, settings: IngestSettings, *, code_version: str) -> None:
        self._log = log
        self._settings = settings
        self._admission = Admission(settings)
        self._code_version = code_version

    async def take(
        self,
        items: Sequence[Item],
        *,
        tenant: str,
        door: str,
        received: dt.datetime,
        headers: Mapping[str, str] | None = None,
        timetrusted: bool = False,
        arrivals: Sequence[Arrival] | None = None,
    ) -> Receipt:
        """Takes in the items of one request. `headers` are kept with rejections.

        `arrivals`: one per item, in place of `received` and `headers`, where each came by itself.

        What goes with an event (the name of an answer) is confirmed with it, or it counts as unconfirmed.
        The events of a request are stamped a microsecond apart, in its order: of two texts of one document
        the later one is current.

        Raises Fatal if the log will never confirm anything again.
        """
        if arrivals is None:
            times = [received + dt.timedelta(microseconds=index) for index in range(len(items))]
        else:
            times = [arrival.received for arrival in arrivals]
        admitted = [
            self._admit(item, tenant, door, time, timetrusted)
            for item, time in zip(items, times, strict=True)
        ]
        events = [
            one
            if isinstance(one, Event)
            else rejected_event(
                one,
                item.original if isinstance(item, Undecoded) else item,
                tenant=tenant,
                door=door,
                received=received if arrivals is None else times[index],
                headers=(headers or {}) if arrivals is None else arrivals[index].headers,
                max_kept_bytes=self._settings.max_kept_bytes,
                code_version=self._code_version,
            )
            for index, (one, item) in enumerate(zip(admitted, items, strict=True))
        ]
        named = {index: name for index, event in enumerate(events) if (name := name_of(event)) is not None}
        retry_after_s = 1.0
        try:
            appended = await self._log.append([*events, *named.values()])
        except Retryable as busy:
            retry_after_s = busy.retry_after_s
            appended = [Appended(False, str(busy))] * (len(events) + len(named))
        outcomes = list(appended[: len(events)])
        for index, done in zip(named, appended[len(events) :], strict=True):
            if not done.confirmed:
                outcomes[index] = done
        return _receipt(admitted, outcomes, retry_after_s)

    def _admit(
        self, item: Item, tenant: str, door: str, received: dt.datetime, timetrusted: bool
    ) -> Event | Rejection:
        if isinstance(item, Undecoded):
            why = item.why
            names = ("", "", "")
            if b'"specversion"' in item.original:  # a piece of another format names no event
                names = readable_names(item.original, self._settings.max_event_bytes)
            source, id_, type_ = names
            return Rejection(
                reason=why.reason,
                field=why.field,
                message=shorten(why.message),
                source=source,
                id=id_,
                type=type_,
            )
        return self._admission.admit(
            item, tenant=tenant, door=door, received=received, timetrusted=timetrusted
        )


def _receipt(
    admitted: Sequence[Event | Rejection], appended: Sequence[Appended], retry_after_s: float
) -> Receipt:
    results = tuple(
        _outcome(index, one, done) for index, (one, done) in enumerate(zip(admitted, appended, strict=True))
    )
    accepted = rejected = 0
    for outcome in results:
        if outcome.status == "accepted":
            accepted += 1
        elif outcome.status == "rejected":
            rejected += 1
    unconfirmed = len(results) - accepted - rejected
    return Receipt(
        results=results,
        accepted=accepted,
        rejected=rejected,
        unconfirmed=unconfirmed,
        retry_after_s=retry_after_s if unconfirmed else None,
    )


def _outcome(index: int, one: Event | Rejection, appended: Appended) -> Outcome:
    if isinstance(one, Event):
        if appended.confirmed:
            return Outcome(index, one.id, one.source, "accepted")
        return Outcome(index, one.id, one.source, "unconfirmed", message=appended.detail)
    status: Status = "rejected" if appended.confirmed else "unconfirmed"
    return Outcome(index, one.id, one.source, status, one.reason, one.field, one.message)
