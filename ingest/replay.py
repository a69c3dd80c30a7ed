"""Rejected entries once more: mended, tried, sent through the one admission, or given up.

A replay keeps the identity (source and id) and gets a new received time. The event is appended first, then
`rejection.replayed`, whose id is derived from entry and identity. So whoever was killed in between sends
again what folds to the same event, and a second replay changes nothing.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from ingest.admission import Admission, Rejection
from ingest.formats.items import Undecoded
from ingest.formats.registry import CLOUDEVENTS, FORMAT_HEADER, decode_original
from ingest.intake import Intake
from ingest.mending import Mend
from ingest.ports import EventLog
from ingest.refusals import DECODER_ERRORS
from ingest.settings import IngestSettings
from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.errors import Reason, Rejectable, Retryable
from schemas.ids import derive_id
from schemas.lifecycle import RejectionDiscarded, RejectionReplayed
from schemas.rejections import CONFLICT, RejectedEntry

#: Name of this way in on events.
REPLAY_DOOR: Final = "replay"
#: Doors whose event times are believed however old they are.
_TRUSTED_DOORS: Final = frozenset({"file"})
#: Door of the entries that the worker made; their originals are records of ours.
_WORKER_DOOR: Final = "streams"

Status = Literal["would_pass", "would_fail", "replayed", "unconfirmed", "answered", "unknown"]


class Kept(Struct, frozen=True):
    """An entry with what was kept of its original."""

    entry: RejectedEntry
    original: bytes


class Attempt(Struct, frozen=True, kw_only=True):
    """What an entry would become: events, or why not."""

    kept: Kept
    #: The original as mended; of entries that were refused before, as it was.
    mended: bytes
    #: CloudEvents in JSON that pass, in order; empty if any does not.
    items: tuple[bytes, ...] = ()
    events: tuple[Event, ...] = ()
    why: Rejection | None = None
    timetrusted: bool = False


class EventName(Struct, frozen=True):
    """What names an event, and what it is about."""

    type: str
    subject: str
    source: str
    id: str


class Replayed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What would become, or became, of an entry.

    `unconfirmed`: not known; the same replay again is safe. `answered`: it was replayed or discarded before,
    and nothing was done. `unknown`: no such entry. `note` says what to know beside.
    """

    entry_id: str
    status: Status
    events: tuple[EventName, ...] = ()
    reason: str = ""
    field: str = ""
    message: str = ""
    note: str = ""


class Discarded(Struct, frozen=True):
    """What became of an entry that was given up."""

    entry_id: str
    confirmed: bool


class Person(Struct, frozen=True):
    """Who orders a step, and by what: source and cause of its event."""

    source: str
    cause: str
    door: str


class Trial:
    """Entry and mend → events, or the reason why not. Stateless, writes nothing."""

    def __init__(self, settings: IngestSettings) -> None:
        self._admission = Admission(settings)

    def attempt(
        self, kept: Kept, *, tenant: str, received: dt.datetime, mend: Mend, new_id: bool = False
    ) -> Attempt:
        """Never raises for any entry and any mend."""
        mended = kept.original
        try:
            mended = _mend(kept, mend)
            items = _items(kept.entry, mended, new_id)
        except Rejectable as why:
            return Attempt(kept=kept, mended=mended, why=_refusal(why))
        trusted = _timetrusted(kept)
        events = []
        for item in items:
            admitted = self._admission.admit(
                item, tenant=tenant, door=REPLAY_DOOR, received=received, timetrusted=trusted
            )
            if isinstance(admitted, Rejection):
                return Attempt(kept=kept, mended=mended, why=admitted)
            if _still_conflicts(kept.entry, admitted):
                return Attempt(kept=kept, mended=mended, why=NEEDS_NEW_ID)
            events.append(admitted)
        return Attempt(
            kept=kept, mended=mended, items=tuple(items), events=tuple(events), timetrusted=trusted
        )


def told(attempt: Attempt) -> Replayed:
    """An attempt in words: would it pass."""
    entry_id = attempt.kept.entry.entry_id
    if attempt.why is not None:
        why = attempt.why
        return Replayed(
            entry_id=entry_id,
            status="would_fail",
            reason=why.reason.value,
            field=why.field,
            message=why.message,
        )
    return Replayed(entry_id=entry_id, status="would_pass", events=_names(attempt.events))


class Replays:
    """Sends what passes, and notes what a person decided. One tenant a call."""

    def __init__(self, log: EventLog, settings: IngestSettings, *, code_version: str) -> None:
        self._log = log
        self._intake = Intake(log, settings, code_version=code_version)

    async def send(
        self,
        attempts: Sequence[Attempt],
        *,
        tenant: str,
        received: dt.datetime,
        person: Person,
        note: Callable[[Attempt], str] = lambda _: "",
    ) -> list[Replayed]:
        """Append the events of what passes, then that it was replayed; what became of each, in order.

        Of an entry with several events all are sent or none. Raises Fatal if the log is dead.
        """
        outcomes = {id(one): told(one) for one in attempts if one.why is not None}
        passing = [one for one in attempts if one.why is None]
        # received times of the second half go on after the first
        start = received
        for trusted in (False, True):
            chosen = [one for one in passing if one.timetrusted is trusted]
            items = [item for one in chosen for item in one.items]
            receipt = await self._intake.take(
                items, tenant=tenant, door=REPLAY_DOOR, received=start, timetrusted=trusted
            )
            start += dt.timedelta(microseconds=len(items))
            results = iter(receipt.results)
            for one in chosen:
                mine = tuple(islice(results, len(one.items)))
                late = next((result for result in mine if result.status != "accepted"), None)
                outcomes[id(one)] = replace(
                    told(one),
                    status="replayed" if late is None else "unconfirmed",
                    message="" if late is None else late.message,
                    note=note(one),
                )
        sent = [one for one in passing if outcomes[id(one)].status == "replayed"]
        for one, confirmed in zip(
            sent, await self._note_replays(sent, tenant, received, person), strict=True
        ):
            if not confirmed:
                outcomes[id(one)] = replace(
                    outcomes[id(one)],
                    status="unconfirmed",
                    message="the event is stored; that it answers this entry is not: replay it again",
                )
        return [outcomes[id(one)] for one in attempts]

    async def discard(
        self,
        entries: Sequence[RejectedEntry],
        *,
        tenant: str,
        received: dt.datetime,
        person: Person,
        reason: str,
    ) -> list[Discarded]:
        """Note that these will never be sent again; a second time changes nothing. Raises Fatal."""
        steps = [
            _step(
                RejectionDiscarded(entry_id=entry.entry_id, reason=reason),
                derive_id("discarded", tenant, entry.entry_id),
                tenant,
                received,
                person,
            )
            for entry in entries
        ]
        confirmed = await self._append(steps)
        return [Discarded(entry.entry_id, done) for entry, done in zip(entries, confirmed, strict=True)]

    async def _note_replays(
        self, sent: Sequence[Attempt], tenant: str, received: dt.datetime, person: Person
    ) -> list[bool]:
        steps = []
        for one in sent:
            entry_id = one.kept.entry.entry_id
            for event in one.events:
                payload = RejectionReplayed(
                    entry_id=entry_id,
                    event_source=event.source,
                    event_id=event.id,
                    subject=event.subject or "",
                )
                id_ = derive_id("replayed", tenant, entry_id, event.subject or "", event.source, event.id)
                steps.append(_step(payload, id_, tenant, received, person))
        confirmed = iter(await self._append(steps))
        return [all(tuple(islice(confirmed, len(one.events)))) for one in sent]

    async def _append(self, steps: Sequence[Event]) -> list[bool]:
        if not steps:
            return []
        try:
            return [one.confirmed for one in await self._log.append(steps)]
        except Retryable:
            return [False] * len(steps)


def _step(
    payload: RejectionReplayed | RejectionDiscarded,
    id_: str,
    tenant: str,
    received: dt.datetime,
    person: Person,
) -> Event:
    return seal_event(
        payload,
        id=id_,
        source=person.source,
        tenant=tenant,
        recordedtime=received,
        door=person.door,
        causationid=person.cause,
    )


def _names(events: Iterable[Event]) -> tuple[EventName, ...]:
    return tuple(EventName(event.type, event.subject or "", event.source, event.id) for event in events)


def _mend(kept: Kept, mend: Mend) -> bytes:
    entry = kept.entry
    if not entry.replayable and mend.whole is msgspec.UNSET:
        raise Rejectable(
            Reason.TOO_LARGE,
            f"only the first {len(kept.original):,} of {entry.original_length:,} bytes are kept: send it "
            "again from its source, or give the whole event",
        )
    return mend.apply(kept.original)


def _items(entry: RejectedEntry, mended: bytes, new_id: bool) -> list[bytes]:
    """The CloudEvents of the mended bytes. Raises Rejectable if one cannot be made."""
    made = decode_original(entry.headers.get(FORMAT_HEADER, CLOUDEVENTS.name), mended)
    items = []
    for item in made:
        if isinstance(item, Undecoded):
            raise item.why
        items.append(_renamed(entry, bytes(item)) if new_id else bytes(item))
    if not items:
        raise Rejectable(Reason.INVALID_VALUE, "it says nothing that an event could be made of; discard it")
    return items


def _renamed(entry: RejectedEntry, item: bytes) -> bytes:
    """The CloudEvent under an id of its own, always the same for the same entry and event."""
    try:
        attributes = msgspec.json.decode(item, type=dict[str, msgspec.Raw])
    except DECODER_ERRORS:
        return item  # admission says what is wrong
    old = bytes(attributes.get("id", msgspec.Raw(b"")))
    id_ = derive_id("replay", entry.entry_id, old.decode("utf-8", "replace"))
    return msgspec.json.encode({**attributes, "id": id_})


def _still_conflicts(entry: RejectedEntry, event: Event) -> bool:
    return entry.reason == CONFLICT and (event.subject or "", event.source, event.id) == (
        entry.subject,
        entry.event_source,
        entry.event_id,
    )


#: Why what has the identity of a stored event, and other content, is not sent.
NEEDS_NEW_ID: Final = Rejection(
    reason=Reason.INVALID_VALUE,
    field="id",
    message=(
        "an event with this source and id is stored with other content, and the first one received stands "
        "for ever: replay this one under a new id (--new-id, over HTTP new_id), so that both count, or "
        "discard it"
    ),
)


class _Stamped(Struct):
    timetrusted: bool = False


_decode_stamp: Final = msgspec.json.Decoder(_Stamped).decode


def _timetrusted(kept: Kept) -> bool:
    """Whether the door vouched for the time; records of ours say so themselves."""
    if kept.entry.reason != CONFLICT and kept.entry.door != _WORKER_DOOR:
        return kept.entry.door in _TRUSTED_DOORS
    try:
        return _decode_stamp(kept.original).timetrusted
    except DECODER_ERRORS:
        return False


def _refusal(why: Rejectable) -> Rejection:
    return Rejection(reason=why.reason, field=why.field, message=why.message)
