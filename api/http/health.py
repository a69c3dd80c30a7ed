"""Whether this process lives, whether it may be sent traffic, and its figures."""

from __future__ import annotations

import msgspec
from litestar import Response
from litestar.handlers import HTTPRouteHandler

from api.http.door import Door
from api.http.methods import get
from api.http.metrics import CONTENT_TYPE
from api.http.problems import Problem, retry_after


def health_routes(door: Door) -> list[HTTPRouteHandler]:
    """The routes of this module. None needs a key; none asks a neighbour."""

    @get("/healthz")
    async def get_health() -> Response[bytes]:
        return Response(msgspec.json.encode({"status": "ok"}), media_type="application/json")

    @get("/readyz")
    async def get_readiness() -> Response[bytes]:
        if not door.serving.caught_up:
            raise Problem(
                503, "not-ready", "the lifecycle has not been read to its end yet", headers=retry_after(1.0)
            )
        return Response(msgspec.json.encode({"status": "ready"}), media_type="application/json")

    @get("/metrics")
    async def get_metrics() -> Response[bytes]:
        return Response(door.metrics.render(), headers={"content-type": CONTENT_TYPE})

    return [get_health, get_readiness, get_metrics]
