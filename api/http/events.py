"""POST /v1/events: CloudEvents 1.0 over HTTP, structured and batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Raw

from api.http.door import Door, answer, check_encoding, read_body
from api.http.problems import Problem
from ingest.refusals import DECODER_ERRORS, refuse_json

ONE: Final = "application/cloudevents+json"
BATCH: Final = "application/cloudevents-batch+json"
PLAIN: Final = "application/json"

_decode_batch: Final = msgspec.json.Decoder(list[Raw]).decode
_decode_one: Final = msgspec.json.Decoder(Raw).decode


def content_type(request: Request[Any, Any, Any]) -> str:
    """The media type of the body, without parameters. Raises Problem 415 for a charset that is not UTF-8."""
    media_type, _, parameters = request.headers.get("content-type", "").lower().partition(";")
    _, _, charset = parameters.partition("charset=")
    charset = charset.partition(";")[0].strip(' "')
    if charset not in ("", "utf-8", "utf8"):
        raise Problem(415, "unsupported-media-type", f"expected UTF-8, got charset {charset[:40]!r}")
    return media_type.strip()


def split_events(body: bytes, media_type: str) -> Sequence[bytes | Raw]:
    """The bytes of each event of a body. Raises Problem: 415 another media type, 400 no JSON."""
    if media_type == PLAIN:
        batched = body.lstrip()[:1] == b"["
    elif media_type in (ONE, BATCH):
        batched = media_type == BATCH
    else:
        raise Problem(
            415,
            "unsupported-media-type",
            f"expected {ONE}, {BATCH} or {PLAIN}, got {media_type[:100]!r}; "
            "CloudEvents in binary mode are not taken here",
        )
    try:
        return _decode_batch(body) if batched else [_decode_one(body)]
    except msgspec.ValidationError as error:
        raise Problem(400, "unparseable", "expected an array of CloudEvents, got one value") from error
    except DECODER_ERRORS as error:
        raise Problem(400, "unparseable", refuse_json(error, field="").message) from error


def event_routes(door: Door) -> list[HTTPRouteHandler]:
    """The routes of this module."""

    @post("/v1/events", status_code=202)
    async def send_events(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = door.sender(request)
        check_encoding(request)
        media_type = content_type(request)
        raws = split_events(await read_body(request, door.settings.max_body_bytes), media_type)
        return answer(await door.take(raws, tenant, {"content-type": media_type}))

    return [send_events]
