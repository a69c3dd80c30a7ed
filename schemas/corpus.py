"""The current documents of a tenant: a fold of its document events, the same for any order of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from msgspec import Struct

from schemas.documents import DocumentStored
from schemas.envelope import Event
from schemas.ids import EventRef


class _Change(Struct, frozen=True):
    """One event of a document: what it says, and what decides between it and others."""

    #: Received time and content hash.
    age: tuple[dt.datetime, str]
    #: None: the document was removed.
    document: DocumentStored | None


class _History(Struct):
    """What is known of one document."""

    #: One record per event: the smallest, so that a late repeat of an old text does not win.
    events: dict[EventRef, _Change]
    #: The largest of `events`.
    current: _Change
    #: Generation of the corpus at the last change that a reader can see.
    changed: int = 0


class Corpus:
    """Documents by id; the event with the largest (received time, content hash) is current.

    Of the records of one event the one with the smallest (received time, content hash) counts. So any order
    and any repetition of the same records gives the same documents.

    `generation` grows with every change, so that a reader can ask for what came since. Not thread-safe.
    """

    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}
        self.generation = 0

    def apply(self, event: Event, payload: Struct) -> None:
        """Take a document event and its decoded payload; what is no DocumentStored removes."""
        document = payload if isinstance(payload, DocumentStored) else None
        change = _Change((event.recordedtime, event.contenthash), document)
        history = self._histories.get(event.subject or "")
        before: DocumentStored | None = None
        if history is None:
            history = self._histories[event.subject or ""] = _History({event.ref: change}, change)
        else:
            known = history.events.get(event.ref)
            if known is not None and known.age <= change.age:
                return
            before = history.current.document
            if document is not None and document == before:
                change = _Change(change.age, before)  # sent again under another id: the text is kept once
            history.events[event.ref] = change
            if change.age > history.current.age:
                history.current = change
            elif known is history.current:
                history.current = max(history.events.values(), key=lambda each: each.age)
        if history.current.document != before:
            self.generation += 1
            history.changed = self.generation

    def get(self, document_id: str) -> DocumentStored | None:
        """The current document, or None."""
        history = self._histories.get(document_id)
        return None if history is None else history.current.document

    def current(self) -> Iterator[DocumentStored]:
        """Documents that are there, by id."""
        for document_id in sorted(self._histories):
            document = self._histories[document_id].current.document
            if document is not None:
                yield document

    def changes_since(self, generation: int) -> tuple[list[DocumentStored], list[str]]:
        """(documents put, ids removed) after `generation`."""
        put: list[DocumentStored] = []
        removed: list[str] = []
        for document_id, history in self._histories.items():
            if history.changed <= max(generation, 0):
                continue
            document = history.current.document
            if document is None:
                removed.append(document_id)
            else:
                put.append(document)
        return put, removed
