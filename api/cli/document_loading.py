"""Loading documents through the API: what stands already is left alone, the rest is sent in batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import msgspec
from rich.console import Console
from rich.text import Text

from api.cli.document_files import Item, SourceDocument, Unreadable
from api.cli.door import Api, Refused
from api.cli.store import VISIBLE_S, AnalystStore, StatementRefused, wait_for_count
from schemas.codec import canonical_json
from schemas.documents import text_hash
from schemas.errors import Retryable

SOURCE: Final = "urn:ratchet:cli"
_BATCH_DOCUMENTS: Final = 200
_BATCH_BYTES: Final = 1_000_000
_ELSEWHERE: Final = (
    "RATCHET_URL or RATCHET_KEY lead to another API or tenant: all was sent, whatever stands there, and "
    "whether it is visible was not looked up"
)


class Loading:
    """One load: what was sent, what stood already, what was bad.

    `store`: shows what the API takes in; None if nothing here does.
    """

    def __init__(self, api: Api, store: AnalystStore | None, tenant: str, run: str, console: Console) -> None:
        self._api = api
        self._store = store
        self._tenant = tenant
        self._run = run
        self._console = console
        #: Ids that the API took, or may have taken, in this load.
        self._sent: set[str] = set()
        self._accepted: set[str] = set()
        self._number = 0
        self.stored = 0
        self.unchanged = 0
        self.bad = 0
        self.note = "" if store is not None else _ELSEWHERE

    def take(self, batch: Sequence[Item]) -> None:
        """Send what is new or changed of a batch; print what is bad."""
        latest: dict[str, SourceDocument] = {}
        for item in batch:
            if isinstance(item, Unreadable):
                self._complain(item.place, item.reason)
                continue
            if earlier := latest.pop(item.document_id, None):
                # documents of one request are received at one time: only the last may go
                self._console.print(
                    Text(
                        f"{item.place} replaces {earlier.place}: both are document {item.document_id}", "dim"
                    )
                )
            latest[item.document_id] = item
        standing = self._standing([i for i in latest if i not in self._sent])
        changed = [d for i, d in latest.items() if standing.get(i) != _state(d)]
        self.unchanged += len(latest) - len(changed)
        if changed:
            self._send(changed)

    def _standing(self, ids: Sequence[str]) -> dict[str, tuple[str, str]]:
        """What the store shows of these documents now; nothing if it cannot be asked."""
        if self._store is None or not ids:
            return {}
        try:
            rows = self._store.rows(
                "SELECT document_id, text_hash, fields FROM documents "
                "WHERE tenant = {tenant:String} AND document_id IN {ids:Array(String)}",
                tenant=self._tenant,
                ids=ids,
            )
        except (Retryable, StatementRefused) as error:
            self._store = None
            self.note = f"what stands already could not be looked up, so all was sent: {error}"
            return {}
        return {row["document_id"]: (row["text_hash"], row["fields"] or "{}") for row in rows}

    def _send(self, batch: Sequence[SourceDocument]) -> None:
        body = []
        for document in batch:
            self._number += 1
            self._sent.add(document.document_id)
            body.append(
                {
                    # fresh for each load: after a removal, or back at an old text, the same content is a new
                    # event; within a load the ids are fixed, so that a request can be sent again
                    "id": f"{self._run}-{self._number}",
                    "source": SOURCE,
                    "document_id": document.document_id,
                    "title": document.title,
                    "text": document.text,
                    "fields": document.fields,
                }
            )
        try:
            answer = self._api.send("POST", "/v1/documents", {"documents": body})
        except Refused as refused:
            if len(batch) > 1:
                raise
            self._complain(batch[0].place, str(refused))
            return
        for result in answer["results"]:
            document = batch[result["index"]]
            if result["status"] == "accepted":
                self.stored += 1
                self._accepted.add(document.document_id)
            else:
                self._complain(document.place, f"{result['reason']}: {result['message']}")

    def _complain(self, place: str, reason: str) -> None:
        self.bad += 1
        self._console.print(Text.assemble((place, "red"), ": ", reason), soft_wrap=True)

    def wait_visible(self) -> bool:
        """Whether the store shows everything that this load stored, within a few seconds."""
        if self._store is None or not self.stored:
            return False
        expected = len(self._accepted)
        try:
            shown = wait_for_count(
                self._store,
                "SELECT count() AS n FROM documents WHERE tenant = {tenant:String} "
                "AND startsWith(event_id, {run:String})",
                lambda n: n >= expected,
                tenant=self._tenant,
                run=self._run,
            )
        except (Retryable, StatementRefused) as error:
            self.note = f"whether they are visible yet could not be looked up: {error}"
            return False
        if not shown:
            self.note = (
                f"acknowledged, but not all visible after {VISIBLE_S:.0f} s: "
                "`ratchet status` shows how far the worker is behind"
            )
        return shown

    def summary(self, visible: bool) -> str:
        """The counts, in one line."""
        parts = [f"{self.stored:,} document{'' if self.stored == 1 else 's'} stored"]
        if visible:
            parts[0] += " and visible"
        parts.append(f"{self.unchanged:,} unchanged")
        if self.bad:
            parts.append(f"{self.bad:,} bad")
        return ", ".join(parts)


def _state(document: SourceDocument) -> tuple[str, str]:
    """What makes two documents equal: hash of the text, fields as the store keeps them."""
    return text_hash(document.title, document.text), canonical_json(document.fields).decode()


def batches(items: Iterator[Item]) -> Iterator[list[Item]]:
    """Items in batches that one request can carry; an item that is too large travels alone."""
    batch: list[Item] = []
    weight_bytes = 0
    for item in items:
        size = len(msgspec.json.encode(item)) if isinstance(item, SourceDocument) else 0
        if batch and (len(batch) >= _BATCH_DOCUMENTS or weight_bytes + size > _BATCH_BYTES):
            yield batch
            batch, weight_bytes = [], 0
        batch.append(item)
        weight_bytes += size
    if batch:
        yield batch
