"""Prometheus metrics made from the table in `schemas.telemetry`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.exceptions import HTTPException
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ingest.intake import Receipt
from schemas import telemetry
from schemas.telemetry import Metric

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST

#: Methods that are a label of their own. Before a route is found, a caller may write what he likes there.
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_OTHER: Final = "other"


def make_metric(metric: Metric, registry: CollectorRegistry) -> Any:
    """The prometheus_client object of one entry of the table, registered."""
    common: dict[str, Any] = {"labelnames": metric.labels, "registry": registry}
    if metric.kind == "counter":
        return Counter(metric.name, metric.meaning, **common)
    if metric.kind == "gauge":
        return Gauge(metric.name, metric.meaning, **common)
    return Histogram(metric.name, metric.meaning, buckets=metric.buckets, **common)


class HttpMetrics:
    """The metrics of one HTTP process, in a registry of their own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._requests = make_metric(telemetry.HTTP_REQUESTS, self.registry)
        self._seconds = make_metric(telemetry.HTTP_SECONDS, self.registry)
        self._unauthenticated = make_metric(telemetry.HTTP_UNAUTHENTICATED, self.registry)
        self._unauthenticated_bytes = make_metric(telemetry.HTTP_UNAUTHENTICATED_BYTES, self.registry)
        self._events = make_metric(telemetry.INGEST_EVENTS, self.registry)
        for status in ("accepted", "rejected", "unconfirmed"):
            # there from the start: a rate does not see the first event of a counter that appears with it
            self._events.labels("http", status)
        self._rejections = make_metric(telemetry.INGEST_REJECTIONS, self.registry)
        self._ignored = make_metric(telemetry.INGEST_IGNORED, self.registry)
        self._spans = make_metric(telemetry.OTLP_SPANS, self.registry)

    def watch(
        self,
        *,
        in_flight_bytes: Callable[[], float] | None = None,
        caught_up: Callable[[], bool] | None = None,
    ) -> None:
        """Gauges that are read when somebody scrapes; one that is not given is not shown. Each once."""
        if in_flight_bytes is not None:
            make_metric(telemetry.LOG_IN_FLIGHT, self.registry).set_function(in_flight_bytes)
        if caught_up is not None:
            caught_up_gauge = make_metric(telemetry.SERVING_CAUGHT_UP, self.registry)
            caught_up_gauge.set_function(lambda: float(caught_up()))

    def count_receipt(self, door: str, receipt: Receipt) -> None:
        """Counts what became of a request's events."""
        for status, number in (
            ("accepted", receipt.accepted),
            ("rejected", receipt.rejected),
            ("unconfirmed", receipt.unconfirmed),
        ):
            if number:
                self._events.labels(door, status).inc(number)
        if receipt.rejected:
            for outcome in receipt.results:
                if outcome.status == "rejected":
                    self._rejections.labels(outcome.reason).inc()

    def count_ignored(self, door: str, number: int) -> None:
        """Counts pieces that say nothing to us."""
        if number:
            self._ignored.labels(door).inc(number)

    def count_spans(self, outcome: str, number: int) -> None:
        """Counts spans by what became of them."""
        self._spans.labels(outcome).inc(number)

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Counts and times every request of a route, under the route's template, never its path."""
        # `labels` looks its child up under a lock and checks each label: for every request that adds up
        counters: dict[tuple[str, str, int], Any] = {}
        timers: dict[str, Any] = {}

        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != ScopeType.HTTP:
                await app(scope, receive, send)
                return
            method = scope["method"]
            started = time.perf_counter()
            status = 500

            async def note(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, note)
            finally:
                route = scope.get("path_template") or _OTHER
                counter = counters.get((route, method, status))
                if counter is None:
                    counter = counters[route, method, status] = self._requests.labels(route, method, status)
                    timers[route] = self._seconds.labels(route)
                counter.inc()
                timers[route].observe(time.perf_counter() - started)
                if status == 401:
                    self._count_unauthenticated(scope)

        return measured

    async def count_unrouted(self, error: Exception, scope: Scope) -> None:
        """An `after_exception` hook: a request without a route (404, 405), which `middleware` never sees."""
        if scope["type"] != ScopeType.HTTP or scope.get("path_template"):
            return
        method: str = scope["method"]
        if method not in _METHODS:
            method = _OTHER
        status = error.status_code if isinstance(error, HTTPException) else 500
        self._requests.labels(_OTHER, method, status).inc()

    def _count_unauthenticated(self, scope: Scope) -> None:
        self._unauthenticated.inc()
        for name, value in scope["headers"]:
            if name == b"content-length" and value.isdigit():
                self._unauthenticated_bytes.inc(int(value[:18]))
