"""Prometheus metrics made from the table in `schemas.telemetry`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ingest.intake import Receipt
from schemas import telemetry
from schemas.telemetry import Metric

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST


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
        self._events = make_metric(telemetry.INGEST_EVENTS, self.registry)
        self._rejections = make_metric(telemetry.INGEST_REJECTIONS, self.registry)
        self._in_flight = make_metric(telemetry.LOG_IN_FLIGHT, self.registry)
        self._caught_up = make_metric(telemetry.SERVING_CAUGHT_UP, self.registry)

    def watch(
        self,
        *,
        in_flight_bytes: Callable[[], float] | None = None,
        caught_up: Callable[[], bool] | None = None,
    ) -> None:
        """Gauges that are read when somebody scrapes."""
        if in_flight_bytes is not None:
            self._in_flight.set_function(in_flight_bytes)
        if caught_up is not None:
            self._caught_up.set_function(lambda: float(caught_up()))

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

    def render(self) -> bytes:
        """The exposition text."""
        return generate_latest(self.registry)

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """Counts and times every request of a route, under the route's template, never its path."""

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
                route = scope.get("path_template") or "other"
                self._requests.labels(route, method, status).inc()
                self._seconds.labels(route).observe(time.perf_counter() - started)

        return measured
