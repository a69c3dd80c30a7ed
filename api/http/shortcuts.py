"""The shortcuts: plain JSON in, ids out."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from litestar import Request, Response, delete, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Raw

from api.http.bodies import AnyRequest, require_json, unparseable
from api.http.door import Door, answer
from api.http.problems import Problem, retry_after
from ingest import shortcuts
from ingest.intake import Outcome, Receipt
from ingest.ports import Grant
from ingest.refusals import DECODER_ERRORS
from ingest.shortcuts import Shortcut, compose_event, names_of
from ingest.strict import MAX_NAME_CHARACTERS

_decode_object: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_objects: Final = msgspec.json.Decoder(list[dict[str, Raw]]).decode
#: The path of a removal as it was sent. The router takes several slashes for one; in the id they are kept.
_REMOVED: Final = re.compile(r"\A/+v1/+documents/(.+)\Z", re.DOTALL)


def idempotency_key(request: AnyRequest) -> str:
    """The `Idempotency-Key` of a request, or ''. Raises Problem 400 if it cannot be an id."""
    key: str = request.headers.get("idempotency-key", "").strip()
    if len(key) > MAX_NAME_CHARACTERS or not key.isprintable():
        raise Problem(
            400,
            "invalid",
            f"expected an Idempotency-Key of at most {MAX_NAME_CHARACTERS} printable characters",
        )
    return key


def _parse(body: bytes, *, many: bool = False) -> Any:
    try:
        return (_decode_objects if many else _decode_object)(body)
    except msgspec.ValidationError as error:
        what = "an array of JSON objects" if many else "a JSON object"
        raise Problem(400, "unparseable", f"expected {what}: {error}") from error
    except DECODER_ERRORS as error:
        raise unparseable(body, error) from error


async def _read_object(request: AnyRequest, door: Door, sender: Grant) -> dict[str, Raw]:
    require_json(request)
    body = await door.read(request)
    try:
        fields: dict[str, Raw] = _parse(body)
    except Problem as problem:
        kept = {"content-type": "application/json", "path": request.url.path[:MAX_NAME_CHARACTERS]}
        await door.refuse_whole(body, sender, kept, problem)
    return fields


def _as_sent(outcome: Outcome) -> Outcome:
    """The outcome with the field as the caller wrote it: a shortcut's body has no `data`."""
    return msgspec.structs.replace(outcome, field=outcome.field.removeprefix("data").removeprefix("."))


def _answer_one(receipt: Receipt, event: bytes) -> Response[bytes]:
    """202 with the ids of one event. Raises Problem 422 if it was refused, 503 if it is unconfirmed."""
    outcome = _as_sent(receipt.results[0])
    ids = {"id": outcome.id, "source": outcome.source}
    if outcome.status == "rejected":
        raise Problem(
            422,
            "rejected",
            outcome.message,
            extensions={**ids, "reason": outcome.reason, "field": outcome.field},
        )
    if outcome.status == "unconfirmed":
        raise Problem(
            503,
            "unconfirmed",
            "it is not known whether the event was stored; send it again with this id",
            headers=retry_after(receipt.retry_after_s or 1.0),
            extensions={**ids, "status": 503},
        )
    return Response(
        msgspec.json.encode({**ids, **names_of(event)}), status_code=202, media_type="application/json"
    )


def _one_object_route(door: Door, shortcut: Shortcut) -> HTTPRouteHandler:
    @post(shortcut.path, status_code=202)
    async def send_one(request: Request[Any, Any, Any]) -> Response[bytes]:
        sender = door.sender(request)
        key = idempotency_key(request)
        event = compose_event(
            shortcut,
            await _read_object(request, door, sender),
            idempotency_key=key,
            mint=door.mint,
        )
        return _answer_one(await door.take([event], sender, _headers(request)), event)

    return send_one


def _headers(request: AnyRequest) -> dict[str, str]:
    """What is kept with a rejection: the way it came, and that its original is the event made of the body."""
    return {"content-type": "application/cloudevents+json", "path": request.url.path[:MAX_NAME_CHARACTERS]}


def shortcut_routes(door: Door) -> list[HTTPRouteHandler]:
    """The routes of this module."""

    @post(shortcuts.DOCUMENTS.path, status_code=202)
    async def store_documents(request: Request[Any, Any, Any]) -> Response[bytes]:
        sender = door.sender(request)
        key = idempotency_key(request)
        fields = await _read_object(request, door, sender)
        if set(fields) != {"documents"}:
            event = compose_event(shortcuts.DOCUMENTS, fields, idempotency_key=key, mint=door.mint)
            return _answer_one(await door.take([event], sender, _headers(request)), event)
        events = [
            compose_event(
                shortcuts.DOCUMENTS, one, idempotency_key=f"{key}/{index}" if key else "", mint=door.mint
            )
            for index, one in enumerate(_parse(bytes(fields["documents"]), many=True))
        ]
        receipt = await door.take(events, sender, _headers(request))
        return answer(
            msgspec.structs.replace(receipt, results=tuple(_as_sent(outcome) for outcome in receipt.results))
        )

    @delete("/v1/documents/{document_id:path}", status_code=202)
    async def remove_document(request: Request[Any, Any, Any]) -> Response[bytes]:
        sender = door.sender(request)
        key = idempotency_key(request)
        # From the path as it was sent: only there an escaped slash is part of the id.
        path = request.scope["raw_path"].partition(b"?")[0].decode("ascii", "replace")
        found = _REMOVED.match(path)
        if found is None:
            raise Problem(404, "not-found", f"expected DELETE {shortcuts.REMOVALS.path}, written like this")
        try:
            document_id = unquote(found[1], errors="strict")
        except UnicodeDecodeError as error:
            text = f"expected percent-encoded UTF-8 in the path, got {found[1][:100]!r}"
            raise Problem(400, "invalid", text, extensions={"field": "document_id"}) from error
        event = compose_event(
            shortcuts.REMOVALS,
            {"document_id": Raw(msgspec.json.encode(document_id))},
            idempotency_key=key,
            mint=door.mint,
        )
        return _answer_one(await door.take([event], sender, _headers(request)), event)

    return [
        *(_one_object_route(door, shortcut) for shortcut in shortcuts.SINGLE),
        store_documents,
        remove_document,
    ]
