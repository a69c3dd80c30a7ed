"""POST /v1/events: CloudEvents 1.0 over HTTP: structured, batched, binary, and a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Raw

from api.http.bodies import AnyRequest, media_type_of, unparseable
from api.http.door import Door, answer
from api.http.problems import Problem
from ingest.formats.cloudevents import BATCH, HTTP_PREFIX, LINES, ONE, compose_http, split_lines
from ingest.formats.items import Item
from ingest.intake import Outcome, Receipt
from ingest.ports import Grant
from ingest.refusals import DECODER_ERRORS

PLAIN: Final = "application/json"
#: What binary mode must carry; where one of them is a header, the body is data.
_BINARY: Final = tuple(HTTP_PREFIX + name for name in ("specversion", "id", "type", "source"))
#: Values (commas) that a request may hold for each event that it may hold; looked at in large bodies only.
_VALUES_PER_EVENT: Final = 50
_LARGE_BYTES: Final = 1024 * 1024

_decode_batch: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_one: Final = msgspec.json.Decoder(Raw).decode


def split_events(body: bytes, media_type: str, max_events: int) -> Sequence[bytes | Raw]:
    """The bytes of each event of a body. Raises Problem: 415 another media type, 400 no JSON, 413 too much.

    `max_events` bounds the values in it, so that millions of tiny ones are not cut before they are counted.
    """
    if media_type == PLAIN:
        batched = body.lstrip()[:1] == b"["
    elif media_type in (ONE, BATCH):
        batched = media_type == BATCH
    else:
        raise Problem(
            415,
            "unsupported-media-type",
            f"expected {ONE}, {BATCH}, {PLAIN}, {' or '.join(LINES)}, or binary mode (the headers "
            f"{', '.join(_BINARY)}), got {media_type[:100]!r}",
        )
    if len(body) > _LARGE_BYTES and body.count(b",") > (most := _VALUES_PER_EVENT * max_events):
        raise Problem(413, "too-large", f"expected at most {most} values a request; send less at once")
    try:
        return _decode_batch(body) if batched else [_decode_one(body)]
    except msgspec.ValidationError as error:
        raise Problem(400, "unparseable", "expected an array of CloudEvents, got one value") from error
    except DECODER_ERRORS as error:
        raise unparseable(body, error) from error


def is_binary(request: AnyRequest, media_type: str) -> bool:
    """Whether the event's attributes are headers (HTTP binding §3: the media type decides first)."""
    if media_type.startswith("application/cloudevents"):
        return False
    headers = request.headers
    return any(name in headers for name in _BINARY)


def _binary_event(request: AnyRequest, body: bytes) -> Item:
    headers = [
        (name.decode("latin-1"), value.decode("latin-1"))
        for name, value in request.scope["headers"]
        if name.startswith(HTTP_PREFIX.encode())
    ]
    return compose_http(headers, request.headers.get("content-type", ""), body)


def _lines(body: bytes, max_events: int) -> list[tuple[int, bytes]]:
    """Numbered lines. Raises Problem 413 before as many are cut as nobody may send."""
    if body.count(b"\n") > max_events:
        raise Problem(413, "too-large", f"expected at most {max_events} lines a request; send less at once")
    return split_lines(body)


def _by_line(receipt: Receipt, numbers: Sequence[int]) -> Receipt:
    """The receipt with the line in the message of each refusal."""

    def told(outcome: Outcome, number: int) -> Outcome:
        if outcome.status != "rejected":
            return outcome
        return msgspec.structs.replace(outcome, message=f"line {number}: {outcome.message}")

    return msgspec.structs.replace(
        receipt, results=tuple(told(*pair) for pair in zip(receipt.results, numbers, strict=True))
    )


def event_routes(door: Door) -> list[HTTPRouteHandler]:
    """The routes of this module."""

    @post("/v1/events", status_code=202)
    async def send_events(request: Request[Any, Any, Any]) -> Response[bytes]:
        sender = door.sender(request)
        media_type = media_type_of(request)
        if media_type in (ONE, BATCH):
            events = await _split_or_keep(door, await door.read(request), sender, media_type)
            return answer(await door.take(events, sender, _kept(media_type)))
        if is_binary(request, media_type):
            event = _binary_event(request, await door.read(request))
            return answer(await door.take([event], sender, {"content-type": ONE, "mode": "binary"}))
        if media_type in LINES:
            lines = _lines(await door.read(request), door.settings.max_events)
            receipt = await door.take([line for _, line in lines], sender, _kept(ONE))
            return answer(_by_line(receipt, [number for number, _ in lines]))
        events = await _split_or_keep(door, await door.read(request), sender, media_type)
        return answer(await door.take(events, sender, _kept(media_type)))

    return [send_events]


async def _split_or_keep(door: Door, body: bytes, sender: Grant, media_type: str) -> Sequence[bytes | Raw]:
    """`split_events`; a body that is no JSON is kept in `rejected` before its problem is raised."""
    try:
        return split_events(body, media_type, door.settings.max_events)
    except Problem as problem:
        if problem.status != 400:
            raise
        await door.refuse_whole(body, sender, _kept(media_type), problem)


def _kept(media_type: str) -> Mapping[str, str]:
    """Headers that are kept with a rejection."""
    return {"content-type": media_type}
