"""How long it takes until an event that is sent now can be seen by an analyst."""

from __future__ import annotations

import asyncio
import json
import random
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import httpx

from infra.chaos import events
from infra.chaos.ledger import Ledger
from infra.chaos.scene import ChaosError, Scene
from infra.chaos.store import Store

SOURCE: Final = "urn:chaos:probe"
_POLL_S: Final = 0.05
_TIMEOUT_S: Final = 5.0


class Probe:
    """A client that keeps books like the others, one event at a time. `ledger` is its file."""

    def __init__(self, scene: Scene, ledger: Path) -> None:
        self._scene = scene
        self._store = Store(scene, timeout_s=_TIMEOUT_S)
        self.ledger = ledger
        self._books = Ledger(ledger)
        self._number = 0

    async def until_visible(self, limit_s: float) -> float:
        """Seconds until an event that is sent now, again and again until it is confirmed, is in `events`.

        Raises ChaosError after `limit_s`.
        """
        began = time.monotonic()
        self._number += 1
        number = self._number
        made = events.ask(SOURCE, f"probe-{number}", datetime.now(UTC), random.Random(number))
        self._books.sent(number, [made.sent])
        try:
            async with asyncio.timeout(limit_s):
                await self._send(json.dumps(made.body).encode())
                self._books.answered(number, {0: "accepted"})
                while not await asyncio.to_thread(self._is_there, made.sent.id):  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise ChaosError(f"an event is not visible {limit_s:g} s after a fault ended") from error
        return time.monotonic() - began

    async def _send(self, body: bytes) -> None:
        headers = {
            "authorization": f"Bearer {self._scene.api_key}",
            "content-type": "application/cloudevents+json",
        }
        async with httpx.AsyncClient(base_url=self._scene.api_url, headers=headers, timeout=15.0) as http:
            while True:
                try:
                    if (await http.post("/v1/events", content=body)).status_code == 202:
                        return
                except httpx.TransportError:
                    pass
                await asyncio.sleep(_POLL_S)

    def _is_there(self, event_id: str) -> bool:
        try:
            rows = self._store.rows(
                f"SELECT count() FROM events WHERE source = '{SOURCE}' AND event_id = '{event_id}' "
                f"AND tenant = '{self._scene.tenant}' AND query_id = '{event_id.removesuffix('-asked')}'"
            )
            return next(rows) == [1]
        except ChaosError:
            return False
