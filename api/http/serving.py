"""Which version to serve to whom, and saying that a version is ready."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec
from litestar import Request, Response, post
from litestar.handlers import HTTPRouteHandler
from msgspec import Meta, Struct

from api.http.bodies import decode_json
from api.http.door import HTTP_DOOR, Door
from api.http.methods import get
from api.http.problems import Problem, retry_after
from ingest.strict import MAX_NAME_CHARACTERS
from schemas.codec import seal_event
from schemas.ids import step_id
from schemas.lifecycle import VersionReady
from schemas.serving import assign

#: CloudEvents source of the lifecycle steps that come in here.
READY_SOURCE: Final = "urn:ratchet:http"


class _Ready(Struct, forbid_unknown_fields=True):
    """Body of a readiness report."""

    by: Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)] = "application"


_decode_ready: Final = msgspec.json.Decoder(_Ready).decode


def serving_routes(door: Door) -> list[HTTPRouteHandler]:
    """The routes of this module."""

    @get("/v1/serving")
    async def get_serving(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = door.reader(request)
        unit = request.query_params.get("unit") or None
        if unit is not None and len(unit) > MAX_NAME_CHARACTERS:
            raise Problem(400, "invalid", f"expected a unit of at most {MAX_NAME_CHARACTERS} characters")
        door.require_caught_up()
        serving = assign(door.serving.current(tenant), unit)
        return Response(
            msgspec.json.encode(serving),
            media_type="application/json",
            headers={"cache-control": "no-store"},
        )

    @post("/v1/versions/{version:str}/ready", status_code=202)
    async def report_ready(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = door.sender(request).tenant
        version: str = request.path_params["version"]
        body = await door.read(request)
        ready = decode_json(body, _decode_ready, '{"by": "<name>"} or no body') if body.strip() else _Ready()
        door.require_caught_up()
        known = door.serving.current(tenant).versions.get(version)
        if known is None:
            raise Problem(404, "not-found", f"tenant {tenant!r} has no version {version[:100]!r}")
        event = seal_event(
            VersionReady(version=version, by=ready.by),
            # Derived from the proposal: a report that is sent again is the same step.
            id=step_id(known.proposed_by, "ratchet.version.ready.v1"),
            source=READY_SOURCE,
            tenant=tenant,
            recordedtime=door.now(),
            door=HTTP_DOOR,
            causationid=known.proposed_by,
        )
        (appended,) = await door.log.append([event])
        if not appended.confirmed:
            raise Problem(503, "unconfirmed", "not confirmed; send it again", headers=retry_after(1.0))
        return Response(
            msgspec.json.encode({"id": event.id, "version": version, "ready": known.ready}),
            status_code=202,
            media_type="application/json",
        )

    return [get_serving, report_ready]
