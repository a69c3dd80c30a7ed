"""Feedback that knows no query is passed on once its reference has a name. Knows no Faust and no Kafka.

What a reference holds is a set of records, all of one partition. The first name in the log counts, so every
worker, however little it has read, comes to the same query or to none.

A batch is passed on *before* it is stored. So a name that is stored has had its effect: who reads the batch
again after a kill finds the name not stored yet, and the feedback still waiting, or everything done. Passing
on again appends the same bytes, which fold to the same event.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, TypeVar

from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.waiting import FeedbackReferred, QueryNamed
from streams.persistence import persist
from streams.ports import InteractionsLog, ReferenceKey, WaitingLookup
from streams.records import Arrival, Record, decode_record
from streams.weights import APPEND_BYTES, cut_by_bytes

#: References with waiting feedback kept in memory, some 200 bytes each; above, all names are looked up.
MAX_REMEMBERED: Final = 100_000

_T = TypeVar("_T")


class ReferenceResolver:
    """Passes feedback on to the query that its reference belongs to. One batch at a time.

    A name costs no look-up unless feedback waits for it; feedback costs one statement a batch.
    """

    def __init__(
        self,
        lookup: WaitingLookup,
        interactions: InteractionsLog,
        *,
        retry_for_s: float,
        max_remembered: int = MAX_REMEMBERED,
    ) -> None:
        self._lookup = lookup
        self._interactions = interactions
        self._retry_for_s = retry_for_s
        self._remembered = _Remembered(max_remembered)

    def forget(self) -> None:
        """Drop what is remembered: partitions were assigned or revoked, others may have written."""
        # a batch in hand goes on with the old one, which nobody else sees
        self._remembered = _Remembered(self._remembered.limit)

    async def pass_on(self, batch: Sequence[tuple[Arrival, Record]]) -> int:
        """Append to `interactions` what this batch names, or what was named before; how many records.

        Call it before the batch is stored: what is appended is durable on return. Raises Fatal if store or
        log stay down.
        """
        names, feedback = _sort_out(record for _, record in batch)
        remembered = self._remembered
        if not remembered.loaded:
            remembered.load(
                await self._persist(
                    functools.partial(self._lookup.waiting_references, remembered.limit + 1),
                    "reading which feedback waits",
                )
            )
        awaited = remembered.among(names)
        earlier: dict[ReferenceKey, list[bytes]] = {}
        if awaited:
            earlier = await self._persist(
                functools.partial(self._lookup.referred_to, awaited), "looking up feedback that waits"
            )
        passed_on = await self._match(names, feedback, earlier, remembered)
        for key in awaited:
            remembered.drop(key)
        return passed_on

    async def _match(
        self,
        names: dict[ReferenceKey, QueryNamed],
        feedback: dict[ReferenceKey, list[Record]],
        earlier: dict[ReferenceKey, list[bytes]],
        remembered: _Remembered,
    ) -> int:
        wanted = feedback.keys() | earlier.keys()
        if not wanted:
            return 0
        stored = await self._persist(
            functools.partial(self._lookup.names_of, wanted), "looking up what references name"
        )
        given: list[Event] = []
        for key in sorted(wanted):
            here = feedback.get(key, [])
            if key in stored:
                # What was stored beside this name was passed on before the name, or it, was stored.
                given += _give(here, _name(decode_record(stored[key])))
            elif key in names:
                waited = map(decode_record, earlier.get(key, ()))
                given += _give([*waited, *here], names[key])
            else:
                remembered.add(key)
        await self._append(given)
        return len(given)

    async def _append(self, events: Sequence[Event]) -> None:
        for part in cut_by_bytes(events, lambda event: len(event.data), APPEND_BYTES):
            await self._persist(
                functools.partial(self._interactions.append, part), "passing on feedback that waited"
            )

    async def _persist(self, action: Callable[[], Awaitable[_T]], doing: str) -> _T:
        return await persist(action, doing=doing, retry_for_s=self._retry_for_s)


class _Remembered:
    """The references with waiting feedback; beyond `limit` of them, any reference may be one."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.loaded = False
        self._references: set[ReferenceKey] | None = set()

    def load(self, references: set[ReferenceKey]) -> None:
        self.loaded = True
        self._references = references
        self._bound()

    def among(self, references: Iterable[ReferenceKey]) -> set[ReferenceKey]:
        waiting = self._references
        return set(references) if waiting is None else {key for key in references if key in waiting}

    def add(self, key: ReferenceKey) -> None:
        if self._references is not None:
            self._references.add(key)
            self._bound()

    def drop(self, key: ReferenceKey) -> None:
        if self._references is not None:
            self._references.discard(key)

    def _bound(self) -> None:
        if self._references is not None and len(self._references) > self.limit:
            self._references = None


def _sort_out(
    records: Iterable[Record],
) -> tuple[dict[ReferenceKey, QueryNamed], dict[ReferenceKey, list[Record]]]:
    """The first name of each reference, and its feedback."""
    names: dict[ReferenceKey, QueryNamed] = {}
    feedback: dict[ReferenceKey, list[Record]] = {}
    for record in records:
        payload = record.payload
        if isinstance(payload, QueryNamed):
            names.setdefault((record.event.tenant, payload.reference), payload)
        elif isinstance(payload, FeedbackReferred):
            feedback.setdefault((record.event.tenant, payload.reference), []).append(record)
    return names, feedback


def _name(record: Record) -> QueryNamed:
    assert isinstance(record.payload, QueryNamed)
    return record.payload


def _give(records: Iterable[Record], named: QueryNamed) -> list[Event]:
    """The feedback of these records as that of the named query; of equal records one."""
    given: dict[tuple[str, str, str, object], Event] = {}
    for record in records:
        event = record.event
        assert isinstance(record.payload, FeedbackReferred)
        given[event.source, event.id, event.contenthash, event.recordedtime] = seal_event(
            record.payload.given(named),
            id=event.id,
            source=event.source,
            tenant=event.tenant,
            recordedtime=event.recordedtime,
            time=event.time,
            door=event.door,
            timetrusted=event.timetrusted,
        )
    return list(given.values())
