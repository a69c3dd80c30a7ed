"""What the routes share: the ports, the intake, and the answer for a receipt."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Request, Response

from api.http.access import authorize
from api.http.metrics import HttpMetrics
from api.http.ports import ServingSource
from api.http.problems import Problem, retry_after
from ingest.formats.items import Item
from ingest.intake import Intake, Receipt
from ingest.ports import EventLog, KeyRing
from ingest.settings import IngestSettings

Mint = Callable[[], str]
Clock = Callable[[], dt.datetime]
AnyRequest = Request[Any, Any, Any]

#: Name of this door on events.
HTTP_DOOR = "http"
#: A body that is too large is read until it is this many times too large.
_READ_ON = 16


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
        self.now = now
        self.mint = mint
        self._intake = Intake(log, settings, code_version=code_version)

    def sender(self, request: AnyRequest) -> str:
        """The tenant of a request that sends. Raises Problem."""
        return authorize(request, self.keys, "send")

    def reader(self, request: AnyRequest) -> str:
        """The tenant of a request that reads. Raises Problem."""
        return authorize(request, self.keys, "read")

    async def take(
        self, items: Sequence[Item], tenant: str, headers: Mapping[str, str], *, door: str = HTTP_DOOR
    ) -> Receipt:
        """Take in the events of a request. Raises Problem 413 if they are too many.

        `door`: the name of this way in, kept on the events.
        """
        if len(items) > self.settings.max_events:
            raise Problem(
                413,
                "too-large",
                f"expected at most {self.settings.max_events} events a request, got {len(items)}",
            )
        receipt = await self._intake.take(
            items, tenant=tenant, door=door, received=self.now(), headers=headers
        )
        self.metrics.count_receipt(door, receipt)
        return receipt


async def read_body(request: AnyRequest, max_bytes: int) -> bytes:
    """The body of a request. Raises Problem 413 if it is larger than `max_bytes`.

    What is too large is read on for a while and thrown away: a caller that is still writing when the
    connection ends would see a reset and no answer.
    """
    kept: list[bytes] = []
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
        if length <= max_bytes:
            kept.append(chunk)
        elif length > _READ_ON * max_bytes:
            break
    if length > max_bytes:
        raise Problem(413, "too-large", f"expected a body of at most {max_bytes} bytes; send less at once")
    return b"".join(kept)


def check_encoding(request: AnyRequest) -> None:
    """Raises Problem 415 for a compressed body."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise Problem(
            415,
            "unsupported-media-type",
            f"expected no content-encoding, got {encoding[:100]!r}; send it plain",
        )


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
