"""The current documents of a tenant: a fold of its document events, the same for any order of them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Final

from schemas.codec import decode_payload
from schemas.documents import DocumentStored
from schemas.envelope import Event

_NEVER: Final = (dt.datetime.min.replace(tzinfo=dt.UTC), "")


class Corpus:
    """Documents by id; the event with the largest (received time, content hash) is current.

    `generation` grows with every change, so that a reader can ask for what came since. Not thread-safe.
    """

    def __init__(self) -> None:
        #: id → ((received, hash), document or None if removed, generation of the change)
        self._entries: dict[str, tuple[tuple[dt.datetime, str], DocumentStored | None, int]] = {}
        self.generation = 0

    def apply(self, event: Event) -> None:
        """Take a document event. Raises Rejectable if its payload cannot be read."""
        payload = decode_payload(event)
        order = (event.recordedtime, event.contenthash)
        document_id = event.subject or ""
        if order <= self._entries.get(document_id, (_NEVER, None, 0))[0]:
            return
        self.generation += 1
        document = payload if isinstance(payload, DocumentStored) else None
        self._entries[document_id] = (order, document, self.generation)

    def get(self, document_id: str) -> DocumentStored | None:
        """The current document, or None."""
        entry = self._entries.get(document_id)
        return None if entry is None else entry[1]

    def current(self) -> Iterator[DocumentStored]:
        """Documents that are there, by id."""
        for document_id in sorted(self._entries):
            document = self._entries[document_id][1]
            if document is not None:
                yield document

    def changes_since(self, generation: int) -> tuple[list[DocumentStored], list[str]]:
        """(documents put, ids removed) after `generation`."""
        put: list[DocumentStored] = []
        removed: list[str] = []
        for document_id, (_, document, changed) in self._entries.items():
            if changed <= generation:
                continue
            if document is None:
                removed.append(document_id)
            else:
                put.append(document)
        return put, removed

    def __len__(self) -> int:
        return sum(entry[1] is not None for entry in self._entries.values())
