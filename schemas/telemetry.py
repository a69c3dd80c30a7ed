"""Every metric of the platform: the one list that exporters, docs and alert rules are checked against."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct


class Metric(Struct, frozen=True, kw_only=True):
    """One metric. Its name ends in its unit, as Prometheus wants it."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    #: seconds, bytes, events, requests, … or `1` for a yes/no or a ratio.
    unit: str
    labels: tuple[str, ...] = ()
    meaning: str
    #: What whoever is on call does when it moves the wrong way; '' if it only explains others.
    operator_action: str = ""
    #: Upper bounds of a histogram, in its unit.
    buckets: tuple[float, ...] = ()


HTTP_REQUESTS: Final = Metric(
    name="ratchet_http_requests_total",
    kind="counter",
    unit="requests",
    labels=("route", "method", "status"),
    meaning="Requests answered, by route template and status code.",
    operator_action="A rising share of 5xx: look at `ratchet status` and at the log of this process.",
)
HTTP_SECONDS: Final = Metric(
    name="ratchet_http_request_seconds",
    kind="histogram",
    unit="seconds",
    labels=("route",),
    meaning="Time from the request's head to the last byte of the answer.",
    operator_action="Slow `/v1/events`: look at the broker first, then at the processor of this process.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
INGEST_EVENTS: Final = Metric(
    name="ratchet_ingest_events_total",
    kind="counter",
    unit="events",
    labels=("door", "status"),
    meaning="Events taken in, by door and by what became of them: accepted, rejected, unconfirmed.",
    operator_action="unconfirmed > 0: Kafka answers late or not at all; callers send again by themselves.",
)
INGEST_REJECTIONS: Final = Metric(
    name="ratchet_ingest_rejections_total",
    kind="counter",
    unit="events",
    labels=("reason",),
    meaning="Events refused at a door, by reason code.",
    operator_action="Rising: `ratchet doctor` shows which source sends what is refused.",
)
LOG_IN_FLIGHT: Final = Metric(
    name="ratchet_log_in_flight_bytes",
    kind="gauge",
    unit="bytes",
    meaning="Bytes handed to Kafka and not yet confirmed.",
    operator_action="At its cap, doors answer 503: Kafka is away or too slow.",
)
SERVING_CAUGHT_UP: Final = Metric(
    name="ratchet_serving_caught_up_ratio",
    kind="gauge",
    unit="1",
    meaning="1 if this process has read `lifecycle` to its end and answers `/v1/serving`, else 0.",
    operator_action="0 for more than a minute: Kafka cannot be read from this process.",
)

METRICS: Final[tuple[Metric, ...]] = (
    HTTP_REQUESTS,
    HTTP_SECONDS,
    INGEST_EVENTS,
    INGEST_REJECTIONS,
    LOG_IN_FLIGHT,
    SERVING_CAUGHT_UP,
)
