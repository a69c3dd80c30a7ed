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

STREAM_MESSAGES: Final = Metric(
    name="ratchet_stream_messages_total",
    kind="counter",
    unit="messages",
    labels=("topic",),
    meaning="Records of the log that were folded and written, by topic.",
    operator_action="Standing still while doors accept: look at the committed lag and at the worker's log.",
)
STREAM_QUERIES: Final = Metric(
    name="ratchet_stream_queries_total",
    kind="counter",
    unit="queries",
    meaning="Queries folded and written anew; one counts again whenever a record of it comes.",
)
STREAM_LOOKUPS: Final = Metric(
    name="ratchet_stream_lookups_total",
    kind="counter",
    unit="queries",
    meaning="Queries whose earlier records had to be read back from the store.",
    operator_action="Near the queries folded: raise streams.known_bytes, or feedback comes very late.",
)
STREAM_REJECTIONS: Final = Metric(
    name="ratchet_stream_rejections_total",
    kind="counter",
    unit="events",
    labels=("reason",),
    meaning="Records that could not be decoded, folded or stored, by reason code.",
    operator_action="Any: `ratchet doctor` shows them; a new version of the code may be at fault.",
)
STREAM_STAGE_SECONDS: Final = Metric(
    name="ratchet_stream_stage_seconds",
    kind="histogram",
    unit="seconds",
    labels=("stage",),
    meaning="Time that a batch spent in each stage: decode, look-up, fold, write.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
STREAM_VISIBLE_SECONDS: Final = Metric(
    name="ratchet_stream_visible_seconds",
    kind="histogram",
    unit="seconds",
    meaning="From the received time of a batch's oldest record until its rows were visible.",
    operator_action="p99 above a few seconds: the worker is behind or the store is slow.",
    buckets=(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0),
)
LAG_EVENTS: Final = Metric(
    name="ratchet_stream_lag_events",
    kind="gauge",
    unit="events",
    labels=("topic", "partition"),
    meaning="Records in the log that the worker has not committed.",
    operator_action="Growing: the worker is too slow or one partition is stalled; restart the worker.",
)
LEARNER_STEPS: Final = Metric(
    name="ratchet_learner_steps_total",
    kind="counter",
    unit="steps",
    meaning="Turns of the learner, idle looks included.",
    operator_action="Standing still for longer than a trial may take: look at the learner's log.",
)
LEARNER_STAGE: Final = Metric(
    name="ratchet_learner_stage_ratio",
    kind="gauge",
    unit="1",
    labels=("tenant", "step"),
    meaning="1 for the step that a tenant's learner is at.",
    operator_action="The same step other than Watch, Wait or LookAtRollout for hours: the learner is stuck.",
)
QUALITY_RATIO: Final = Metric(
    name="ratchet_quality_clicked_ratio",
    kind="gauge",
    unit="1",
    labels=("tenant",),
    meaning="Share of settled queries with a click, over the last watch window.",
    operator_action="10 % below the reference: `ratchet story` says what the learner does about it.",
)
QUALITY_REFERENCE_RATIO: Final = Metric(
    name="ratchet_quality_reference_clicked_ratio",
    kind="gauge",
    unit="1",
    labels=("tenant",),
    meaning="Share of queries with a click when the champion began, to hold the present one against.",
)

METRICS: Final[tuple[Metric, ...]] = (
    HTTP_REQUESTS,
    HTTP_SECONDS,
    INGEST_EVENTS,
    INGEST_REJECTIONS,
    LOG_IN_FLIGHT,
    SERVING_CAUGHT_UP,
    STREAM_MESSAGES,
    STREAM_QUERIES,
    STREAM_LOOKUPS,
    STREAM_REJECTIONS,
    STREAM_STAGE_SECONDS,
    STREAM_VISIBLE_SECONDS,
    LAG_EVENTS,
    LEARNER_STEPS,
    LEARNER_STAGE,
    QUALITY_RATIO,
    QUALITY_REFERENCE_RATIO,
)
