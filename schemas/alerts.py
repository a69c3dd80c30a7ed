"""Every alert of the platform: the one list that Prometheus' rules, the evaluation inside and docs come from.

An expression is PromQL over `schemas.telemetry`, of the part that `api.alerts.promql` reads: so the same
text is evaluated by Prometheus and by the process `alerts`. `infra/deploy/prometheus/rules.yml` is made from
this table (`python -P -m tests.docs.alert_rules`), and its tests are run by promtool and by the process's
evaluation.

Gauges of the whole group of workers are shown by every worker: an expression takes their maximum. Counters
belong to their process: an expression adds them up.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Template
from typing import Final, Literal

from msgspec import Struct

Severity = Literal["critical", "warning"]
#: Where each alert has an entry, by its name in lower case.
RUNBOOK: Final = "docs/operations.md"


class Alert(Struct, frozen=True, kw_only=True):
    """One alert: raised while the expression has had a result for `for_s` seconds, once a set of labels.

    `$threshold` in the expression is the threshold, which settings may override. `summary` is one sentence,
    with Prometheus' `{{ $labels.x }}` and `{{ $value | humanize }}`.
    """

    name: str
    expression: str
    #: None: the expression compares with nothing that anybody would choose.
    threshold: float | None = None
    for_s: int
    #: critical wakes somebody, warning waits for the morning.
    severity: Severity
    summary: str
    #: Why it is asked like this; '' if that is plain.
    why: str = ""

    def promql(self, threshold: float | None = None) -> str:
        """The expression with this threshold, or with the table's."""
        chosen = self.threshold if threshold is None else threshold
        return (
            self.expression
            if chosen is None
            else Template(self.expression).substitute(threshold=f"{chosen:.15g}")
        )

    @property
    def runbook(self) -> str:
        """Where it is said what to do."""
        return f"{RUNBOOK}#{self.name.lower()}"


ALERTS: Final[tuple[Alert, ...]] = (
    Alert(
        name="RatchetProcessDown",
        expression='up{job=~"ratchet-.+"} == 0',
        for_s=120,
        severity="critical",
        summary="{{ $labels.job }} at {{ $labels.instance }} cannot be scraped",
    ),
    Alert(
        name="RatchetApiSlow",
        expression=(
            "histogram_quantile(0.99, sum by (job, le) (rate(ratchet_http_request_seconds_bucket[5m]))) "
            "> $threshold"
        ),
        threshold=5,
        for_s=300,
        severity="critical",
        summary="1 % of requests to {{ $labels.job }} take longer than {{ $value | humanizeDuration }}",
    ),
    Alert(
        name="RatchetApiErrors",
        expression=(
            'sum by (job) (rate(ratchet_http_requests_total{status=~"5.."}[5m])) '
            "/ sum by (job) (rate(ratchet_http_requests_total[5m])) > $threshold"
        ),
        threshold=0.05,
        for_s=300,
        severity="critical",
        summary="{{ $labels.job }} answers {{ $value | humanizePercentage }} of requests with an error",
    ),
    Alert(
        name="RatchetEventsUnconfirmed",
        expression='sum(rate(ratchet_ingest_events_total{status="unconfirmed"}[5m])) > $threshold',
        threshold=0,
        for_s=300,
        severity="critical",
        summary="Kafka does not confirm {{ $value | humanize }} events a second; callers get 503",
    ),
    Alert(
        name="RatchetEventsRejected",
        expression=(
            'sum(rate(ratchet_ingest_events_total{status="rejected"}[10m])) '
            "/ sum(rate(ratchet_ingest_events_total[10m])) > $threshold"
        ),
        threshold=0.1,
        for_s=600,
        severity="warning",
        summary="{{ $value | humanizePercentage }} of the events are rejected",
    ),
    Alert(
        name="RatchetNoEvents",
        expression='(sum(increase(ratchet_ingest_events_total{status="accepted"}[5m])) or vector(0)) == 0',
        for_s=1800,
        severity="warning",
        summary="no event was accepted for 30 minutes",
        why="A quiet night is not an error: look before waking anybody.",
    ),
    Alert(
        name="RatchetLagStalled",
        expression=(
            "max by (topic, partition) (min_over_time(ratchet_stream_lag_events[10m]) > 0 "
            "and changes(ratchet_stream_committed_events[10m]) == 0)"
        ),
        for_s=120,
        severity="critical",
        summary="partition {{ $labels.partition }} of {{ $labels.topic }} has not moved for 10 minutes",
        why="A commit can stall while events are processed and other partitions move, so this looks at what "
        "is committed, partition by partition, and not at what was processed.",
    ),
    Alert(
        name="RatchetLagGrowing",
        expression=(
            "sum by (topic) (max by (topic, partition) (ratchet_stream_lag_events)) > $threshold "
            "and sum by (topic) (max by (topic, partition) (deriv(ratchet_stream_lag_events[15m]))) >= 0"
        ),
        threshold=100_000,
        for_s=900,
        severity="warning",
        summary="{{ $value | humanize }} records of {{ $labels.topic }} wait and the workers do not catch up",
    ),
    Alert(
        name="RatchetLagOld",
        expression="max by (topic) (ratchet_stream_lag_seconds) > $threshold",
        threshold=300,
        for_s=300,
        severity="critical",
        summary="the oldest record of {{ $labels.topic }} that is not in the store waits for "
        "{{ $value | humanizeDuration }}",
        why="Few records that wait long are as late as many: a lag in records does not say what users see.",
    ),
    Alert(
        name="RatchetInboxOld",
        expression="max by (topic) (ratchet_inbox_lag_seconds) > $threshold",
        threshold=300,
        for_s=300,
        severity="critical",
        summary="the oldest record of {{ $labels.topic }} that is not taken in waits for "
        "{{ $value | humanizeDuration }}",
        why="An inbox that is busy always has records in hand, so their age tells, and not their number. It "
        "is by the broker's time: a process that starts again and again does not start it anew.",
    ),
    Alert(
        name="RatchetFeedbackWaiting",
        expression="max(ratchet_waiting_feedback_events) > $threshold",
        threshold=1000,
        for_s=900,
        severity="warning",
        summary="{{ $value | humanize }} feedback events wait for a query that nobody has named",
    ),
    Alert(
        name="RatchetCacheMisses",
        expression=(
            "1 - sum(rate(ratchet_stream_lookups_found_total[15m])) "
            "/ (sum(rate(ratchet_stream_queries_total[15m])) - sum(rate(ratchet_stream_lookups_total[15m])) "
            "+ sum(rate(ratchet_stream_lookups_found_total[15m]))) < $threshold "
            "and sum(rate(ratchet_stream_lookups_found_total[15m])) > 1"
        ),
        threshold=0.6,
        for_s=1800,
        severity="warning",
        summary="only {{ $value | humanizePercentage }} of the queries with earlier records are in memory",
        why="A query's first record has nothing to be known; a few late events an hour cost nobody anything.",
    ),
    Alert(
        name="RatchetDiskFilling",
        expression=(
            "min by (job, instance) (ratchet_disk_free_bytes / ratchet_disk_size_bytes) < $threshold"
        ),
        threshold=0.1,
        for_s=300,
        severity="critical",
        summary="{{ $value | humanizePercentage }} of the disk is free that {{ $labels.job }} at "
        "{{ $labels.instance }} writes to",
    ),
    Alert(
        name="RatchetLearnerStuck",
        expression="increase(ratchet_learner_steps_total[30m]) == 0",
        for_s=300,
        severity="warning",
        summary="the learner has taken no step for 30 minutes",
    ),
    Alert(
        name="RatchetLearnerSameStep",
        expression='ratchet_learner_stage_ratio{step!~"Watch|Gather|Wait|LookAtRollout"} == 1',
        for_s=21_600,
        severity="warning",
        summary="the learner of {{ $labels.tenant }} has been at {{ $labels.step }} for 6 hours",
        why="Watching, gathering, waiting for a person and trying on users may take days; nothing else may.",
    ),
    Alert(
        name="RatchetQualityFell",
        expression="ratchet_quality_clicked_ratio < $threshold * ratchet_quality_reference_clicked_ratio",
        threshold=0.9,
        for_s=900,
        severity="warning",
        summary="queries of {{ $labels.tenant }} with a click fell to {{ $value | humanizePercentage }}",
    ),
)
BY_NAME: Final[Mapping[str, Alert]] = {alert.name: alert for alert in ALERTS}
