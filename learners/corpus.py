"""The current documents of a tenant: a fold of its document events, the same for any order of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from msgspec import Struct

from schemas.codec import decode_payload
from schemas.documents import DocumentStored
from schemas.envelope import Event
from schemas.ids import EventRef

#: Received time and content hash: what decides between records.
_Age = tuple[dt.datetime, str]


class _Entry(Struct):
    """What is known of one document."""

    #: One record per event: the smallest, so that a late repeat of an old text does not win.
    events: dict[EventRef, tuple[_Age, DocumentStored | None]]
    #: Corpus generation of the last change that a reader can see.
    changed: int = 0

    def current(self) -> tuple[_Age, DocumentStored | None]:
        return max(self.events.values(), key=lambda event: event[0])


class Corpus:
    """Documents by id; the event with the largest (received time, content hash) is current.

    `generation` grows with every change, so that a reader can ask for what came since. Not thread-safe.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self.generation = 0

    def apply(self, event: Event) -> None:
        """Take a document event. Raises Rejectable if its payload cannot be read."""
        payload = decode_payload(event)
        document = payload if isinstance(payload, DocumentStored) else None
        entry = self._entries.setdefault(event.subject or "", _Entry({}))
        age = (event.recordedtime, event.contenthash)
        known = entry.events.get(event.ref)
        if known is not None and known[0] <= age:
            return
        before = entry.current()[1] if entry.events else None
        entry.events[event.ref] = (age, document)
        if entry.current()[1] != before:
            self.generation += 1
            entry.changed = self.generation

    def get(self, document_id: str) -> DocumentStored | None:
        """The current document, or None."""
        entry = self._entries.get(document_id)
        return None if entry is None else entry.current()[1]

    def current(self) -> Iterator[DocumentStored]:
        """Documents that are there, by id."""
        for document_id in sorted(self._entries):
            document = self._entries[document_id].current()[1]
            if document is not None:
                yield document

    def changes_since(self, generation: int) -> tuple[list[DocumentStored], list[str]]:
        """(documents put, ids removed) after `generation`."""
        put: list[DocumentStored] = []
        removed: list[str] = []
        for document_id, entry in self._entries.items():
            if entry.changed <= max(generation, 0):
                continue
            document = entry.current()[1]
            if document is None:
                removed.append(document_id)
            else:
                put.append(document)
        return put, removed

    def __len__(self) -> int:
        return sum(entry.current()[1] is not None for entry in self._entries.values())
