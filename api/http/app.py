"""The HTTP application over ready-made ports. It builds no adapter and reads no setting."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import structlog
from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException

from api.http.compatible import compatible_routes
from api.http.discovery import discovery_routes
from api.http.door import Clock, Door, Mint
from api.http.events import event_routes
from api.http.health import health_routes
from api.http.keys import key_routes
from api.http.metrics import HttpMetrics
from api.http.otlp import otlp_routes
from api.http.ports import RejectedEntries, ServingSource
from api.http.problems import (
    Problem,
    handle_framework_error,
    handle_problem,
    problem_response,
    retry_after,
)
from api.http.rates import show_rates
from api.http.rejected import rejected_routes
from api.http.serving import serving_routes
from api.http.shortcuts import shortcut_routes
from ingest.ports import EventLog, KeyRing
from ingest.settings import IngestSettings
from schemas.errors import Fatal, Retryable

log = structlog.get_logger(__name__)

#: sysexits' EX_SOFTWARE: the supervisor starts the process again.
EXIT_FATAL = 70


def stop_process(error: Fatal) -> None:
    """End this process at once: nothing that it would answer from now on could be true."""
    log.critical("fatal", error=str(error))
    os._exit(EXIT_FATAL)


def create_app(
    *,
    event_log: EventLog,
    keys: KeyRing,
    serving: ServingSource,
    settings: IngestSettings,
    now: Clock,
    mint: Mint,
    code_version: str,
    metrics: HttpMetrics | None = None,
    rejected: RejectedEntries | None = None,
    on_fatal: Callable[[Fatal], None] = stop_process,
    lifespan: Any = (),
) -> Litestar:
    """The application. `on_fatal` is called when the log is dead; by default the process ends then."""
    metrics = metrics or HttpMetrics()
    metrics.watch(caught_up=lambda: serving.caught_up)
    door = Door(
        log=event_log,
        keys=keys,
        settings=settings,
        serving=serving,
        metrics=metrics,
        now=now,
        mint=mint,
        code_version=code_version,
    )

    def handle_fatal(_request: Request[Any, Any, Any], error: Fatal) -> Response[bytes]:
        on_fatal(error)
        return problem_response(
            Problem(
                503,
                "unconfirmed",
                "this process is stopping; send the whole request again with the same ids",
                headers=retry_after(1.0),
            )
        )

    def handle_retryable(_request: Request[Any, Any, Any], error: Retryable) -> Response[bytes]:
        headers = retry_after(error.retry_after_s)
        return problem_response(Problem(503, "unconfirmed", str(error), headers=headers))

    def handle_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        log.error("unexpected", path=request.url.path, method=request.method, exc_info=error)
        return problem_response(
            Problem(500, "internal", "an unexpected error; it is in the log of this process")
        )

    return Litestar(
        route_handlers=[
            *event_routes(door),
            *shortcut_routes(door),
            *compatible_routes(door, code_version),
            *otlp_routes(door),
            *serving_routes(door),
            *key_routes(door),
            *rejected_routes(door, rejected, code_version),
            *discovery_routes(code_version),
            *health_routes(door),
        ],
        middleware=[metrics.middleware],
        before_send=[show_rates],
        after_exception=[metrics.count_unrouted],
        exception_handlers={
            Problem: handle_problem,
            HTTPException: handle_framework_error,
            Fatal: handle_fatal,
            Retryable: handle_retryable,
            Exception: handle_unexpected,
        },
        openapi_config=None,
        # Routes read bodies with `read_body`: it answers where the framework would cut the connection.
        request_max_body_size=None,
        lifespan=lifespan,
        logging_config=None,
    )
