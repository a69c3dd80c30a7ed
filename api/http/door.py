"""What the routes share: the ports, the intake, and the answer for a receipt."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

import msgspec
from litestar import Response

from api.http.access import authorize
from api.http.bodies import AnyRequest, read_body
from api.http.metrics import HttpMetrics
from api.http.ports import ServingSource
from api.http.problems import Problem, retry_after
from api.http.rates import Rates
from ingest.formats.items import Item, Undecoded
from ingest.intake import Intake, Receipt
from ingest.ports import EventLog, Grant, KeyRing
from ingest.settings import IngestSettings
from schemas.errors import Reason, Rejectable

Mint = Callable[[], str]
Clock = Callable[[], dt.datetime]

#: Name of this door on events.
HTTP_DOOR = "http"


class Door:
    """Everything that a route needs; made once per process."""

    def __init__(
        self,
        *,
        log: EventLog,
        keys: KeyRing,
        settings: IngestSettings,
        serving: ServingSource,
        metrics: HttpMetrics,
        now: Clock,
        mint: Mint,
        code_version: str,
    ) -> None:
        self.log = log
        self.keys = keys
        self.settings = settings
        self.serving = serving
        self.metrics = metrics
        self.rates = Rates(
            max_requests_per_s=settings.max_requests_per_s, max_events_per_s=settings.max_events_per_s
        )
        self.now = now
        self.mint = mint
        self._intake = Intake(log, settings, code_version=code_version)

    def sender(self, request: AnyRequest) -> Grant:
        """Who sends, to hand on to `take`. Raises Problem (`authorize`)."""
        return authorize(request, self.keys, "send", self.rates)

    def reader(self, request: AnyRequest) -> str:
        """The tenant of a request that reads. Raises Problem."""
        return authorize(request, self.keys, "read", self.rates).tenant

    def administrator(self, request: AnyRequest) -> Grant:
        """Who administers the tenant. Raises Problem."""
        return authorize(request, self.keys, "administer", self.rates)

    def require_caught_up(self) -> None:
        """Raises Problem 503 until the lifecycle has been read to its end."""
        if not self.serving.caught_up:
            raise Problem(
                503,
                "not-ready",
                "the lifecycle has not been read to its end yet; ask again in a second",
                headers=retry_after(1.0),
            )

    async def read(self, request: AnyRequest) -> bytes:
        """The body of a request, unpacked, within the limit of this door. Raises Problem (`read_body`)."""
        return await read_body(request, self.settings.max_body_bytes)

    async def take(
        self, items: Sequence[Item], sender: Grant, headers: Mapping[str, str], *, door: str = HTTP_DOOR
    ) -> Receipt:
        """Take in the events of a request. Raises Problem: 413 too many at once, 429 too many a second.

        `door`: the name of this way in, kept on the events.
        """
        if len(items) > self.settings.max_events:
            raise Problem(
                413,
                "too-large",
                f"expected at most {self.settings.max_events} events a request, got {len(items)}",
            )
        self.rates.charge_events(sender, len(items))
        receipt = await self._intake.take(
            items, tenant=sender.tenant, door=door, received=self.now(), headers=headers
        )
        self.metrics.count_receipt(door, receipt)
        return receipt

    async def refuse_whole(
        self,
        body: bytes,
        sender: Grant,
        headers: Mapping[str, str],
        problem: Problem,
        *,
        door: str = HTTP_DOOR,
    ) -> NoReturn:
        """Keep a body in which no event can be told from another, then raise `problem`.

        It came with a key, so it must not vanish: it is in `rejected`, with its bytes, before the answer
        goes. Raises Problem 503 instead if that is not confirmed.
        """
        if body.strip():
            why = Rejectable(
                Reason.INVALID_JSON, problem.detail, field=str(problem.extensions.get("field", ""))
            )
            receipt = await self.take([Undecoded(body, why)], sender, headers, door=door)
            if receipt.unconfirmed:
                answer(receipt)
        raise problem


def answer(receipt: Receipt) -> Response[bytes]:
    """202 all accepted, 207 some; raises Problem 422 if none was, 503 if any is unconfirmed."""
    if receipt.unconfirmed:
        raise Problem(
            503,
            "unconfirmed",
            f"{receipt.unconfirmed} of {len(receipt.results)} events are not confirmed; send the whole "
            "request again with the same ids: what is stored twice counts once",
            headers=retry_after(receipt.retry_after_s or 1.0),
            extensions=msgspec.to_builtins(receipt),
        )
    if receipt.rejected and not receipt.accepted:
        first = receipt.results[0]
        raise Problem(
            422,
            "rejected",
            first.message if len(receipt.results) == 1 else f"none of {receipt.rejected} events was accepted",
            extensions=msgspec.to_builtins(receipt),
        )
    return Response(
        msgspec.json.encode(receipt),
        status_code=207 if receipt.rejected else 202,
        media_type="application/json",
    )
