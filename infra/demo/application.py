"""The bank's help search, as a customer of Ratchet writes it: search, show, report what people do."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from ratchet_client import AsyncRatchet, Found, FoundDocument, Refused, Unavailable

from infra.demo.customers import Reaction
from infra.demo.dataset import HelpText
from infra.demo.record import Record

#: CloudEvents source of everything that this application sends.
SOURCE: Final = "urn:bank:help-search"
SHOWN: Final = 10
#: Share of events that are sent a second time, as after a lost answer.
REPEATED: Final = 0.01
#: A broken event goes out after this share of events, as from a buggy release.
BROKEN: Final = 0.005

_Send = Callable[[], Awaitable[object]]


class HelpSearch:
    """Searches for customers and reports their feedback; `record` has every event. For one event loop."""

    def __init__(self, client: AsyncRatchet, record: Record) -> None:
        self._client = client
        self._record = record
        self._unconfirmed: list[tuple[tuple[str, ...], _Send]] = []

    async def load(self, documents: Iterable[HelpText]) -> None:
        """Store the help texts."""
        events = [
            {**_stamp("document.stored"), "data": {"document_id": text.id, "text": text.text}}
            for text in documents
        ]
        await self._report(tuple(event["id"] for event in events), lambda: self._client.send(events))

    async def search(self, text: str, user: str, attributes: dict[str, str | bool]) -> Found:
        """The list that this customer is shown. Raises ClientError."""
        return await self._client.search(text, user=user, k=SHOWN, attributes=attributes)

    async def report(self, found: Found, reactions: Iterable[Reaction], rng: random.Random) -> None:
        """Report what the customer did with the list. `rng` draws the faults of a real network and code."""
        for reaction in reactions:
            hit = found.hits[reaction.rank - 1]
            await self._faulty(found, self._click(found, hit), rng)
            if reaction.thumb is not None:
                await self._faulty(found, self._thumb(found, hit, reaction.thumb), rng)

    async def confirm(self) -> None:
        """Send again what was never answered."""
        waiting, self._unconfirmed = self._unconfirmed, []
        for ids, send in waiting:
            await self._report(ids, send)

    def _click(self, found: Found, hit: FoundDocument) -> tuple[str, _Send]:
        event_id, now = _new_id(), _now()
        return event_id, lambda: self._client.click(
            found.query_id,
            hit.document_id,
            rank=hit.rank,
            retrieval_id=found.retrieval_id,
            id=event_id,
            time=now,
        )

    def _thumb(self, found: Found, hit: FoundDocument, up: bool) -> tuple[str, _Send]:
        event_id, now = _new_id(), _now()
        return event_id, lambda: self._client.thumb(
            found.query_id,
            up=up,
            document_id=hit.document_id,
            rank=hit.rank,
            retrieval_id=found.retrieval_id,
            id=event_id,
            time=now,
        )

    async def _faulty(self, found: Found, event: tuple[str, _Send], rng: random.Random) -> None:
        event_id, send = event
        await self._report((event_id,), send)
        if rng.random() < REPEATED:
            await self._report((event_id,), send)
        if rng.random() < BROKEN:
            broken = _broken_event(found, rng)
            await self._report((broken["id"],), lambda: self._client.send([broken]))

    async def _report(self, ids: tuple[str, ...], send: _Send) -> None:
        for event_id in ids:
            self._record.note("sent", event_id)
        refused: frozenset[str] = frozenset()
        try:
            await send()
        except Unavailable:
            self._unconfirmed.append((ids, send))
            return
        except Refused as error:
            refused = frozenset(refusal.id for refusal in error.refusals)
        for event_id in ids:
            self._record.note("refused" if event_id in refused else "acknowledged", event_id)


def _broken_event(found: Found, rng: random.Random) -> dict[str, Any]:
    """An event that no door may take: a wrong value, an unknown field, an unknown type, a missing name."""
    good: dict[str, Any] = {"query_id": found.query_id, "kind": "thumb", "value": 1}
    return rng.choice(
        [
            {**_stamp("feedback.given"), "data": {**good, "value": 7}},
            {**_stamp("feedback.given"), "data": {**good, "colour": "green"}},
            {**_stamp("feedback.gven"), "data": good},
            {**_stamp("feedback.given"), "data": {"kind": "thumb", "value": 1}},
        ]
    )


def _stamp(name: str) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": _new_id(),
        "source": SOURCE,
        "type": f"ratchet.{name}.v1",
        "time": _now().isoformat(),
    }


def _new_id() -> str:
    return str(uuid.uuid4())


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
