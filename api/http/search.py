"""The HTTP application of the search process: `POST /v1/search`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import structlog
from litestar import Litestar, Request, Response, get, post
from litestar.exceptions import HTTPException

from api.http.access import authorize
from api.http.app import stop_process
from api.http.bodies import decode_json, read_body
from api.http.metrics import CONTENT_TYPE, HttpMetrics
from api.http.problems import Problem, handle_framework_error, handle_problem, problem_response, retry_after
from api.http.rates import Rates, show_rates
from ingest.ports import KeyRing
from learners.search.service import SearchRequest, SearchService
from schemas.errors import Fatal, Retryable

log = structlog.get_logger(__name__)

#: A search is a question and a few attributes.
MAX_BODY_BYTES = 256 * 1024

_decode_request: Final = msgspec.json.Decoder(SearchRequest).decode


def create_search_app(
    service: SearchService,
    keys: KeyRing,
    metrics: HttpMetrics,
    *,
    waiting: Callable[[], str | None],
    rates: Rates | None = None,
    on_fatal: Callable[[Fatal], None] = stop_process,
) -> Litestar:
    """The application. `waiting`: what the process waits for before it can answer, or None."""

    rates = rates or Rates()

    @post("/v1/search", status_code=200)
    async def search(request: Request[Any, Any, Any]) -> Response[bytes]:
        tenant = authorize(request, keys, "read", rates).tenant
        body = await read_body(request, MAX_BODY_BYTES)
        asked = decode_json(body, _decode_request, '{"text": "…", "k": 10, "user": "…"}')
        try:
            answer = await service.search(tenant, asked)
        except Retryable as error:
            headers = retry_after(error.retry_after_s)
            raise Problem(503, "not-ready", str(error), headers=headers) from error
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @get("/healthz")
    async def get_health() -> Response[bytes]:
        return Response(b'{"status":"ok"}', media_type="application/json")

    @get("/readyz")
    async def get_readiness() -> Response[bytes]:
        if why := waiting():
            raise Problem(503, "not-ready", why, headers=retry_after(1.0))
        return Response(b'{"status":"ready"}', media_type="application/json")

    @get("/metrics")
    async def get_metrics() -> Response[bytes]:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    def handle_fatal(_request: Request[Any, Any, Any], error: Fatal) -> Response[bytes]:
        on_fatal(error)
        text = "this process is stopping; ask again with the same query_id"
        return problem_response(Problem(503, "unconfirmed", text, headers=retry_after(1.0)))

    def handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        log.error("unexpected", path=request.url.path, method=request.method, exc_info=error)
        return problem_response(
            Problem(500, "internal", "an unexpected error; it is in the log of this process")
        )

    return Litestar(
        route_handlers=[search, get_health, get_readiness, get_metrics],
        middleware=[metrics.middleware],
        before_send=[show_rates],
        after_exception=[metrics.count_unrouted],
        exception_handlers={
            Problem: handle_problem,
            HTTPException: handle_framework_error,
            Fatal: handle_fatal,
            Exception: handle_unexpected,
        },
        openapi_config=None,
        # `read_body` answers where the framework would cut the connection.
        request_max_body_size=None,
        logging_config=None,
    )
