"""Replays and discards, as HTTP and the command line order them: which entries, and what became of each.

Nothing is decided here that the log does not decide again: two who replay at once append the same events.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from api.http.ports import RejectedEntries
from ingest.mending import Mend
from ingest.replay import (
    NEEDS_NEW_ID,
    Attempt,
    Discarded,
    Kept,
    Person,
    Replayed,
    Replays,
    Trial,
    told,
)
from schemas.errors import RatchetError, Reason
from schemas.registry import BY_NAME
from schemas.rejections import CONFLICT, EntryAnswer, EntryFilter, RejectedEntry
from schemas.topics import INTERACTIONS

_PORTION_BYTES: Final = 8 * 1024 * 1024
_PORTION_ENTRIES: Final = 200
#: Letters of an entry's id that are enough to name it.
SHORTEST_ID: Final = 8


class AmbiguousEntry(RatchetError):
    """The beginning of an id names several entries, or is too short to name one."""


class Wanted(Struct, frozen=True, kw_only=True):
    """Which entries: those named (a beginning of the id is enough), or those that pass the filter."""

    ids: tuple[str, ...] = ()
    filter: EntryFilter = EntryFilter()
    limit: int = 1000


class Replaying:
    """One tenant's replays, over ready-made ports. `replays` is None where nothing may be written."""

    def __init__(
        self,
        entries: RejectedEntries,
        trial: Trial,
        *,
        tenant: str,
        now: Callable[[], dt.datetime],
        person: Person,
        replays: Replays | None = None,
    ) -> None:
        self._entries = entries
        self._trial = trial
        self._replays = replays
        self._tenant = tenant
        self._now = now
        self._person = person

    async def attempts(self, wanted: Wanted, mend: Mend, new_id: bool) -> AsyncIterator[list[Attempt]]:
        """What the entries would become, a portion at a time, also against what is stored by now.

        Raises AmbiguousEntry, Retryable.
        """
        async for portion in self._portions(wanted):
            originals = await self._entries.originals(self._tenant, [one.entry_id for one in portion])
            yield await self._against_stored(
                [
                    self._trial.attempt(
                        Kept(one, originals[one.entry_id]),
                        tenant=self._tenant,
                        received=self._now(),
                        mend=mend,
                        new_id=new_id,
                    )
                    for one in portion
                    if one.entry_id in originals  # it may have been answered meanwhile
                ]
            )

    async def replay(self, wanted: Wanted, mend: Mend, new_id: bool) -> AsyncIterator[list[Replayed]]:
        """Sends what passes; what became of each. Raises AmbiguousEntry, Retryable, Fatal."""
        assert self._replays is not None
        async for attempts in self.attempts(wanted, mend, new_id):
            yield await self._replays.send(
                attempts, tenant=self._tenant, received=self._now(), person=self._person
            )

    async def would_replay(self, wanted: Wanted, mend: Mend, new_id: bool) -> AsyncIterator[list[Replayed]]:
        """The dry run of `replay`."""
        async for attempts in self.attempts(wanted, mend, new_id):
            yield [told(one) for one in attempts]

    async def discard(self, wanted: Wanted, reason: str) -> AsyncIterator[list[Discarded]]:
        """Gives entries up. Raises AmbiguousEntry, Retryable, Fatal."""
        assert self._replays is not None
        async for portion in self._portions(wanted):
            yield await self._replays.discard(
                portion, tenant=self._tenant, received=self._now(), person=self._person, reason=reason
            )

    async def not_standing(self, ids: Sequence[str]) -> list[Replayed]:
        """Of the ids named, those that stand no more, each with what was decided; or that never stood."""
        standing = [one.entry_id for one in await self._entries.named(self._tenant, ids)]
        gone = [id_ for id_ in ids if not any(one.startswith(id_) for one in standing)]
        answers = await self._entries.answers(self._tenant, gone) if gone else []
        return [_gone(id_, [one for one in answers if one.entry_id.startswith(id_)]) for id_ in gone]

    async def _portions(self, wanted: Wanted) -> AsyncIterator[list[RejectedEntry]]:
        if wanted.ids:
            for start in range(0, len(wanted.ids), _PORTION_ENTRIES):
                named = await self.named(wanted.ids[start : start + _PORTION_ENTRIES])
                for portion in cut_portions([(one.entry_id, one.original_length) for one in named]):
                    ids = set(portion)
                    yield [one for one in named if one.entry_id in ids]
            return
        lengths = await self._entries.lengths(self._tenant, wanted.filter, wanted.limit)
        for portion in cut_portions(lengths):
            yield await self._entries.named(self._tenant, portion)

    async def named(self, ids: Sequence[str]) -> list[RejectedEntry]:
        """The entries that stand of those named. Raises AmbiguousEntry."""
        for id_ in ids:
            if len(id_) < SHORTEST_ID:
                raise AmbiguousEntry(f"expected at least {SHORTEST_ID} letters of an entry's id, got {id_!r}")
        found = await self._entries.named(self._tenant, ids)
        for id_ in ids:
            several = [one.entry_id[:16] for one in found if one.entry_id.startswith(id_)]
            if len(several) > 1:
                raise AmbiguousEntry(f"{id_!r} names several entries ({', '.join(several)}): give more of it")
        return found

    async def _against_stored(self, attempts: list[Attempt]) -> list[Attempt]:
        """Fails what would only make a conflict: its identity is stored with other content."""
        names = {
            (event.subject or "", event.source, event.id): event.contenthash
            for one in attempts
            for event in one.events
            if BY_NAME[event.type].topic == INTERACTIONS
        }
        stored = await self._entries.stored(self._tenant, list(names))

        def checked(attempt: Attempt) -> Attempt:
            for event in attempt.events:
                there = stored.get((event.subject or "", event.source, event.id))
                if there is not None and there[0] != event.contenthash:
                    return replace(attempt, events=(), items=(), why=NEEDS_NEW_ID)
            return attempt

        return [checked(one) for one in attempts]


def describe_entry(entry: RejectedEntry, original: bytes) -> dict[str, Any]:
    """An entry with its original, as JSON where it is JSON, and what to do about it."""
    described: dict[str, Any] = msgspec.to_builtins(entry)
    described["remedy"] = remedy_of(entry)
    try:
        described["original"] = msgspec.json.decode(original)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        described["original_text"] = original.decode("utf-8", "replace")
    return described


def remedy_of(entry: RejectedEntry) -> str:
    """What a person does next, in one clause."""
    if entry.reason == CONFLICT:
        return "replay it under a new id, so that both count, or discard it"
    if not entry.replayable:
        return "send it again from its source: only its beginning is kept; then discard this entry"
    try:
        return Reason(entry.reason).remedy
    except ValueError:  # of a newer version
        return "see the message"


def cut_portions(lengths: Sequence[tuple[str, int]]) -> list[list[str]]:
    """Ids in portions of bounded number and bytes, in order."""
    portions: list[list[str]] = []
    weight_bytes = 0
    for id_, length in lengths:
        if not portions or len(portions[-1]) >= _PORTION_ENTRIES or weight_bytes + length > _PORTION_BYTES:
            portions.append([])
            weight_bytes = 0
        portions[-1].append(id_)
        weight_bytes += length
    return portions


def _gone(id_: str, answers: Sequence[EntryAnswer]) -> Replayed:
    if not answers:
        return Replayed(
            entry_id=id_,
            status="unknown",
            message="no entry with this id stands: it was never rejected here, its event has been stored "
            "since, or the worker has not read it yet",
        )
    answer = answers[-1]
    what = (
        f"replayed as event {answer.event_id} from {answer.event_source}"
        if answer.replayed
        else f"discarded ({answer.reason})"
    )
    return Replayed(
        entry_id=answer.entry_id,
        status="answered",
        message=f"it was {what} on {answer.received_time:%Y-%m-%d %H:%M:%S} UTC by {answer.source}; "
        "nothing was done",
    )
