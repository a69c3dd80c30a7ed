"""Health and figures of a process that serves nothing else: the stream worker, the learner."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from litestar import Litestar, Response, get
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from prometheus_client import CollectorRegistry, generate_latest

from api.http.metrics import CONTENT_TYPE
from api.http.problems import Problem, handle_framework_error, handle_problem, retry_after


def create_monitor(
    *,
    stuck: Callable[[], str | None],
    waiting: Callable[[], str | None],
    registry: CollectorRegistry,
    routes: Sequence[HTTPRouteHandler] = (),
) -> Litestar:
    """`/healthz`, `/readyz`, `/metrics`, none of which asks a neighbour, and `routes`.

    `stuck`: why this process makes no progress, or None. `waiting`: what it waits for before it is of use.
    """

    def answer(status: str) -> Response[bytes]:
        return Response(msgspec.json.encode({"status": status}), media_type="application/json")

    @get("/healthz", sync_to_thread=False)
    def get_health() -> Response[bytes]:
        if why := stuck():
            raise Problem(503, "not-ready", why, headers=retry_after(5.0))
        return answer("ok")

    @get("/readyz", sync_to_thread=False)
    def get_readiness() -> Response[bytes]:
        if why := waiting():
            raise Problem(503, "not-ready", why, headers=retry_after(1.0))
        return answer("ready")

    @get("/metrics", sync_to_thread=False)
    def get_metrics() -> Response[bytes]:
        return Response(generate_latest(registry), headers={"content-type": CONTENT_TYPE})

    return Litestar(
        route_handlers=[get_health, get_readiness, get_metrics, *routes],
        exception_handlers={Problem: handle_problem, HTTPException: handle_framework_error},
        openapi_config=None,
        logging_config=None,
    )
