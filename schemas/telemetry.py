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
HTTP_UNAUTHENTICATED: Final = Metric(
    name="ratchet_http_unauthenticated_requests_total",
    kind="counter",
    unit="requests",
    meaning="Requests answered with 401: without a key, or with an unknown one. Nothing of them is kept.",
    operator_action="Rising: a key was not changed everywhere, or somebody tries keys; see the proxy's log.",
)
HTTP_UNAUTHENTICATED_BYTES: Final = Metric(
    name="ratchet_http_unauthenticated_bytes_total",
    kind="counter",
    unit="bytes",
    meaning="Bytes that requests answered with 401 announced as their bodies; they are not stored.",
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
INGEST_IGNORED: Final = Metric(
    name="ratchet_ingest_ignored_total",
    kind="counter",
    unit="events",
    labels=("door",),
    meaning="Pieces of another tool's format that say nothing to us, by door: an impression, a page view.",
)
OTLP_SPANS: Final = Metric(
    name="ratchet_otlp_spans_total",
    kind="counter",
    unit="spans",
    labels=("outcome",),
    meaning=(
        "Spans that came by OTLP, by what became of them: read, refused; or why they say nothing to us: "
        "kind (a kind that is not read), foreign (of neither OpenInference nor GenAI), empty."
    ),
    operator_action="Only foreign: the application's model calls and searches are not instrumented.",
)
LOG_RECORDS: Final = Metric(
    name="ratchet_log_records_total",
    kind="counter",
    unit="records",
    labels=("topic", "status"),
    meaning="Records handed to Kafka, by topic and by what became of them: confirmed, unconfirmed.",
    operator_action="unconfirmed > 0: see the broker; what is unconfirmed may be in the log or not.",
)
LOG_BYTES: Final = Metric(
    name="ratchet_log_data_bytes_total",
    kind="counter",
    unit="bytes",
    labels=("topic",),
    meaning="Bytes of the `data` of records handed to Kafka; envelopes are not counted.",
)
LOG_CONFIRM_SECONDS: Final = Metric(
    name="ratchet_log_confirm_seconds",
    kind="histogram",
    unit="seconds",
    meaning="From handing events to Kafka until all of them were confirmed, or given up.",
    operator_action="Slow: the broker's disk, or too few replicas in sync.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
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

INBOX_LAG: Final = Metric(
    name="ratchet_inbox_lag_events",
    kind="gauge",
    unit="events",
    labels=("topic", "partition"),
    meaning="Records that applications wrote to an inbox and that are not taken in and committed.",
    operator_action="Growing: the inbox is too slow, or Kafka does not confirm; see the log of `inbox`.",
)
INBOX_LAG_SECONDS: Final = Metric(
    name="ratchet_inbox_lag_seconds",
    kind="gauge",
    unit="seconds",
    labels=("topic", "partition"),
    meaning="How long the oldest record in hand has been in the inbox (by the broker's append time, or since "
    "it was fetched where the topic has none); 0 if none waits.",
    operator_action="Above a few minutes: nothing of it is in the log yet; see the log of `inbox`.",
)
STREAM_MESSAGES: Final = Metric(
    name="ratchet_stream_messages_total",
    kind="counter",
    unit="messages",
    labels=("topic",),
    meaning="Records of the log that were folded and written, by topic.",
    operator_action="Standing still while doors accept: look at the committed lag and at the worker's log.",
)
STREAM_BATCH: Final = Metric(
    name="ratchet_stream_batch_messages",
    kind="histogram",
    unit="messages",
    labels=("topic",),
    meaning="Records in one batch, by topic.",
    buckets=(1, 3, 10, 30, 100, 300, 1000, 3000, 10000),
)
STREAM_RECORDS: Final = Metric(
    name="ratchet_stream_new_records_total",
    kind="counter",
    unit="records",
    labels=("topic",),
    meaning="Records that were not stored before; the other messages of the topic were repeats.",
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
STREAM_LOOKUPS_FOUND: Final = Metric(
    name="ratchet_stream_lookups_found_total",
    kind="counter",
    unit="queries",
    meaning="Queries that were looked up and had earlier records: what memory should have known.",
    operator_action="Many beside the queries that needed no look-up: raise streams.known_bytes.",
)
STREAM_ROWS: Final = Metric(
    name="ratchet_stream_written_rows_total",
    kind="counter",
    unit="rows",
    labels=("table",),
    meaning="Rows that were written to the store, by table; a row that is written again counts again.",
)
STREAM_ROW_BYTES: Final = Metric(
    name="ratchet_stream_written_bytes_total",
    kind="counter",
    unit="bytes",
    labels=("table",),
    meaning="Bytes of the blocks that were written to the store, encoded and before compression, by table.",
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
    meaning="Time that a batch spent in each stage: decode, lookup, fold, encode, write, reject.",
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
    meaning="Records in the log that the group of workers has not committed; every worker shows the same.",
    operator_action="Growing: the worker is too slow or one partition is stalled; restart the worker.",
)
LAG_SECONDS: Final = Metric(
    name="ratchet_stream_lag_seconds",
    kind="gauge",
    unit="seconds",
    labels=("topic", "partition"),
    meaning="How long the oldest record that is not committed has been in the log; 0 if all are committed.",
    operator_action="Above a few minutes: figures are old; see the lag in records and the stages' times.",
)
COMMITTED_EVENTS: Final = Metric(
    name="ratchet_stream_committed_events",
    kind="gauge",
    unit="events",
    labels=("topic", "partition"),
    meaning="Next offset that the group of workers reads; every worker shows the same.",
)
WAITING_EVENTS: Final = Metric(
    name="ratchet_waiting_feedback_events",
    kind="gauge",
    unit="events",
    meaning="Feedback on an answer or span whose query is not known yet; every worker shows the same.",
    operator_action="Growing: a door's client reports feedback, but not the queries that it belongs to.",
)
WAITING_SECONDS: Final = Metric(
    name="ratchet_waiting_oldest_seconds",
    kind="gauge",
    unit="seconds",
    meaning="Since when the oldest feedback of `ratchet_waiting_feedback_events` waits; 0 if none waits.",
)
DISK_FREE: Final = Metric(
    name="ratchet_disk_free_bytes",
    kind="gauge",
    unit="bytes",
    meaning="Free space of the file system that holds this process's data directory.",
    operator_action="Little: make room before Kafka and the store can write nothing more.",
)
DISK_SIZE: Final = Metric(
    name="ratchet_disk_size_bytes",
    kind="gauge",
    unit="bytes",
    meaning="Size of the file system that holds this process's data directory.",
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

RAISED_ALERTS: Final = Metric(
    name="ratchet_raised_alerts",
    kind="gauge",
    unit="alerts",
    labels=("alert", "severity"),
    meaning="Alerts that are raised now, as the process `alerts` sees it.",
    operator_action="`ratchet status` names them; each has an entry below.",
)
ALERT_SCRAPES: Final = Metric(
    name="ratchet_alert_scrapes_total",
    kind="counter",
    unit="scrapes",
    labels=("job", "outcome"),
    meaning="Times that the process `alerts` asked a process for its metrics: ok, failed.",
)
ALERT_DELIVERIES: Final = Metric(
    name="ratchet_alert_deliveries_total",
    kind="counter",
    unit="requests",
    labels=("outcome",),
    meaning="Requests to the webhook: delivered, failed. One that failed is sent again.",
    operator_action="failed and no delivered: nobody is told; see the log of `alerts` and the receiver.",
)
ENGINE_QUERIES: Final = Metric(
    name="ratchet_engine_queries_total",
    kind="counter",
    unit="queries",
    labels=("account", "kind"),
    meaning="Statements of the local engine, by account (writer, analyst) and kind (read, insert, other).",
)
ENGINE_ERRORS: Final = Metric(
    name="ratchet_engine_query_errors_total",
    kind="counter",
    unit="queries",
    labels=("code",),
    meaning="Statements of the local engine that failed or were refused, by ClickHouse's error code.",
    operator_action="Rising by code 241: memory; by 243 or 252: disk, or too many parts; see its log.",
)
ENGINE_SECONDS: Final = Metric(
    name="ratchet_engine_query_seconds",
    kind="histogram",
    unit="seconds",
    labels=("kind",),
    meaning="Local engine: from the whole request to the end of its answer.",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
ENGINE_RUNNING: Final = Metric(
    name="ratchet_engine_queries_running",
    kind="gauge",
    unit="queries",
    labels=("account",),
    meaning="Statements that the local engine runs now.",
)

METRICS: Final[tuple[Metric, ...]] = (
    HTTP_REQUESTS,
    HTTP_SECONDS,
    HTTP_UNAUTHENTICATED,
    HTTP_UNAUTHENTICATED_BYTES,
    INGEST_EVENTS,
    INGEST_REJECTIONS,
    INGEST_IGNORED,
    OTLP_SPANS,
    LOG_RECORDS,
    LOG_BYTES,
    LOG_CONFIRM_SECONDS,
    LOG_IN_FLIGHT,
    SERVING_CAUGHT_UP,
    INBOX_LAG,
    INBOX_LAG_SECONDS,
    STREAM_MESSAGES,
    STREAM_BATCH,
    STREAM_RECORDS,
    STREAM_QUERIES,
    STREAM_LOOKUPS,
    STREAM_LOOKUPS_FOUND,
    STREAM_REJECTIONS,
    STREAM_STAGE_SECONDS,
    STREAM_ROWS,
    STREAM_ROW_BYTES,
    STREAM_VISIBLE_SECONDS,
    LAG_EVENTS,
    LAG_SECONDS,
    COMMITTED_EVENTS,
    WAITING_EVENTS,
    WAITING_SECONDS,
    DISK_FREE,
    DISK_SIZE,
    LEARNER_STEPS,
    LEARNER_STAGE,
    QUALITY_RATIO,
    QUALITY_REFERENCE_RATIO,
    RAISED_ALERTS,
    ALERT_SCRAPES,
    ALERT_DELIVERIES,
    ENGINE_QUERIES,
    ENGINE_ERRORS,
    ENGINE_SECONDS,
    ENGINE_RUNNING,
)
