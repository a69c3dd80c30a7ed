"""API keys of a tenant: issue, list, revoke. What they are is in `lifecycle`; only hashes are kept."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, delete, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from api.http.bodies import decode_json, require_json
from api.http.door import HTTP_DOOR, Door
from api.http.methods import get
from api.http.operation import BODY_REFUSALS, PROBLEM, REFUSALS, Json, Operation, path_parameter
from api.http.problems import Problem, retry_after
from ingest.keys import DEFAULT_SCOPES, describe_key, make_key
from ingest.ports import Grant, Limits, Scope
from schemas.codec import seal_event
from schemas.lifecycle import KeyIssued, KeyRevoked
from schemas.tenant_state import LifecycleState

#: CloudEvents source of the lifecycle steps that come in here.
_SOURCE: Final = "urn:ratchet:http"
#: Keys that a tenant may have in force.
MAX_KEYS: Final = 1000
#: A step that is not read back by then may come to count later.
_READ_BACK_S: Final = 5.0
_LOOK_EVERY_S: Final = 0.005
#: What the list calls a tenant's key of the settings.
SETTINGS_KEY: Final = "settings"
_Rate = Annotated[float, Meta(ge=0, le=1e9)]


class _Asked(Struct, forbid_unknown_fields=True):
    """Body of a request for a key."""

    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=8)]
    name: Annotated[str, Meta(max_length=100)] = ""
    max_requests_per_s: _Rate | None = None
    max_events_per_s: _Rate | None = None


_decode_asked: Final = msgspec.json.Decoder(_Asked).decode


def key_routes(door: Door, random_bytes: Callable[[int], bytes] = os.urandom) -> list[HTTPRouteHandler]:
    """The routes of this module. All need the scope `administer`, and act on the key's own tenant."""

    @post("/v1/keys", status_code=201)
    async def issue_key(request: Request[Any, Any, Any]) -> Response[bytes]:
        grant = door.administrator(request)
        require_json(request)
        asked = decode_json(await door.read(request), _decode_asked, '{"scopes": ["send"], "name": "…"}')
        if len(_state(door, grant).keys) >= MAX_KEYS:
            raise Problem(409, "conflict", f"expected at most {MAX_KEYS} keys in force; revoke some first")
        key, issued = make_key(
            random_bytes,
            scopes=asked.scopes,
            name=asked.name,
            issued_by=_who(grant),
            issued_at=door.now(),
            limits=Limits(asked.max_requests_per_s, asked.max_events_per_s),
        )
        await _append(door, grant, issued, lambda state: state.keys.get(issued.key_id) == issued)
        return _json({"key": key, **describe_key(issued)}, 201)

    @get("/v1/keys")
    async def list_keys(request: Request[Any, Any, Any]) -> Response[bytes]:
        grant = door.administrator(request)
        keys = _state(door, grant).keys
        return _json({"keys": [describe_key(issued) for issued in keys.values()]})

    @delete("/v1/keys/{key_id:str}", status_code=200)
    async def revoke_key(request: Request[Any, Any, Any]) -> Response[bytes]:
        grant = door.administrator(request)
        key_id: str = request.path_params["key_id"]
        if key_id not in _state(door, grant).keys:
            raise Problem(
                404,
                "not-found",
                f"tenant {grant.tenant!r} has no key {key_id[:100]!r} in force; GET /v1/keys lists them "
                "(a key of the settings is taken out there, and the processes started anew)",
            )
        await _append(door, grant, KeyRevoked(key_id=key_id), lambda state: key_id not in state.keys)
        return _json({"key_id": key_id, "revoked": True})

    return [issue_key, list_keys, revoke_key]


def _who(grant: Grant) -> str:
    return f"urn:ratchet:key:{grant.key_id or SETTINGS_KEY}"


def _state(door: Door, grant: Grant) -> LifecycleState:
    """The tenant's lifecycle. Raises Problem 503 if it has not been read to its end."""
    door.require_caught_up()
    return door.serving.current(grant.tenant)


async def _append(
    door: Door, grant: Grant, payload: KeyIssued | KeyRevoked, holds: Callable[[LifecycleState], bool]
) -> None:
    """Appends a step and waits until it counts in this process. Raises Problem 503: it may or may not."""
    event = seal_event(
        payload,
        id=door.mint(),
        source=_SOURCE,
        tenant=grant.tenant,
        recordedtime=door.now(),
        door=HTTP_DOOR,
        causationid=_who(grant),
    )
    (appended,) = await door.log.append([event])
    give_up_s = time.monotonic() + _READ_BACK_S
    while appended.confirmed and time.monotonic() < give_up_s:
        if holds(door.serving.current(grant.tenant)):
            return
        await asyncio.sleep(_LOOK_EVERY_S)
    raise Problem(
        503,
        "unconfirmed",
        "it is not known whether this counts: look at GET /v1/keys, then ask again (a key that was issued "
        "but not shown opens nothing for anybody: revoke it)",
        headers=retry_after(1.0),
    )


def _json(value: object, status_code: int = 200) -> Response[bytes]:
    return Response(
        msgspec.json.encode(value),
        status_code=status_code,
        media_type="application/json",
        headers={"cache-control": "no-store"},
    )


_SCOPES: Final[Json] = {
    "type": "array",
    "items": {"enum": ["send", "read", "administer"]},
    "minItems": 1,
    "maxItems": 8,
}
_RATE: Final[Json] = {
    "type": ["number", "null"],
    "minimum": 0,
    "maximum": 1e9,
    "description": "In each process; 0 = no limit, null = that of the settings.",
}
_NAME: Final[Json] = {"type": "string", "maxLength": 100, "description": "What it is for."}
_KEY: Final[Json] = {
    "type": "object",
    "required": ["key_id", "name", "scopes", "hint", "issued_by"],
    "properties": {
        "key_id": {"type": "string"},
        "name": _NAME,
        "scopes": _SCOPES,
        "hint": {"type": "string", "description": "Last characters of the key."},
        "issued_by": {"type": "string"},
        "issued_at": {"type": ["string", "null"], "format": "date-time"},
        "max_requests_per_s": _RATE,
        "max_events_per_s": _RATE,
    },
}
KEY_OPERATIONS: Final = (
    Operation(
        method="post",
        path="/v1/keys",
        summary="Issue a key",
        description=(
            "For the tenant of the key that asks. The new key is in this answer and nowhere else; it is in "
            "force in every process within a second. A first key with the scope `administer` comes from "
            "`ratchet keys issue --scope administer`."
        ),
        scope="administer",
        body={
            "application/json": {
                "type": "object",
                "required": ["scopes"],
                "additionalProperties": False,
                "properties": {
                    "scopes": _SCOPES,
                    "name": _NAME,
                    "max_requests_per_s": _RATE,
                    "max_events_per_s": _RATE,
                },
            }
        },
        example={"name": "shop", "scopes": list(DEFAULT_SCOPES)},
        answers={
            "201": (
                "the key, once",
                "application/json",
                {"allOf": [_KEY, {"required": ["key"], "properties": {"key": {"type": "string"}}}]},
            ),
            "409": PROBLEM,
            **BODY_REFUSALS,
        },
    ),
    Operation(
        method="get",
        path="/v1/keys",
        summary="The keys in force that were issued",
        description="Keys of the settings are not among them: they are in force as long as they stand there.",
        scope="administer",
        answers={
            "200": (
                "all but the keys themselves",
                "application/json",
                {"type": "object", "properties": {"keys": {"type": "array", "items": _KEY}}},
            ),
            **REFUSALS,
        },
    ),
    Operation(
        method="delete",
        path="/v1/keys/{key_id}",
        summary="Revoke a key",
        description="It opens nothing any more, in every process, within a second. A key may revoke itself.",
        scope="administer",
        answers={
            "200": (
                "it is void",
                "application/json",
                {
                    "type": "object",
                    "properties": {"key_id": {"type": "string"}, "revoked": {"const": True}},
                },
            ),
            "404": PROBLEM,
            **REFUSALS,
        },
        parameters=(path_parameter("key_id"),),
    ),
)
