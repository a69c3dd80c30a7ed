"""The stream worker's figures, from the reports of its batches."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from api.http.metrics import make_metric
from api.processes.lag_age import LagAge
from infra.kafka.log import PartitionProgress
from schemas import telemetry
from streams.batch import BatchReport


class WorkerMetrics:
    """Counts what each batch did; the age of what it wrote is what users feel as delay."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = make_metric(telemetry.STREAM_MESSAGES, registry)
        self._batch = make_metric(telemetry.STREAM_BATCH, registry)
        self._records = make_metric(telemetry.STREAM_RECORDS, registry)
        self._queries = make_metric(telemetry.STREAM_QUERIES, registry)
        self._lookups = make_metric(telemetry.STREAM_LOOKUPS, registry)
        self._rejections = make_metric(telemetry.STREAM_REJECTIONS, registry)
        self._stage = make_metric(telemetry.STREAM_STAGE_SECONDS, registry)
        self._lag = make_metric(telemetry.LAG_EVENTS, registry)
        self._lag_seconds = make_metric(telemetry.LAG_SECONDS, registry)
        self._committed = make_metric(telemetry.COMMITTED_EVENTS, registry)
        self._waiting = make_metric(telemetry.WAITING_EVENTS, registry)
        self._waiting_seconds = make_metric(telemetry.WAITING_SECONDS, registry)
        self._age = make_metric(telemetry.STREAM_VISIBLE_SECONDS, registry)
        #: (topic, partition) → how long its lag has lasted
        self._ages: dict[tuple[str, int], LagAge] = {}

    def observe(self, report: BatchReport) -> None:
        """Take one batch."""
        self._messages.labels(report.topic).inc(report.messages)
        self._batch.labels(report.topic).observe(report.messages)
        self._records.labels(report.topic).inc(report.new_records)
        self._queries.inc(report.queries)
        self._lookups.inc(report.lookups)
        for reason, number in report.rejected.items():
            self._rejections.labels(reason).inc(number)
        for stage, seconds in report.seconds.items():
            self._stage.labels(stage).observe(seconds)
        if report.oldest_received_s is not None:
            self._age.observe(max(0.0, time.time() - report.oldest_received_s))

    def note_oldest(
        self,
        progress: Mapping[str, Mapping[int, PartitionProgress]],
        came_at_s: Mapping[str, Mapping[int, float]],
    ) -> None:
        """When the first uncommitted records of `progress` came: what waited before this process began."""
        for topic, partitions in came_at_s.items():
            for partition, time_s in partitions.items():
                self._age_of(topic, partition).note(progress[topic][partition].committed, time_s)

    def observe_lag(self, progress: Mapping[str, Mapping[int, PartitionProgress]]) -> None:
        """Take one look at committed and end offsets: of the whole group, whoever has the partitions."""
        now_s = time.time()
        for topic, partitions in progress.items():
            for partition, one in partitions.items():
                self._lag.labels(topic, partition).set(max(0, one.end - one.committed))
                self._committed.labels(topic, partition).set(one.committed)
                age_s = self._age_of(topic, partition).look(one.committed, one.end, now_s)
                self._lag_seconds.labels(topic, partition).set(age_s)

    def observe_waiting(self, events: int, oldest_at_s: float | None) -> None:
        """Feedback that waits for its query, in the whole store; `oldest_at_s`: seconds since 1970."""
        self._waiting.set(events)
        self._waiting_seconds.set(max(0.0, time.time() - oldest_at_s) if oldest_at_s is not None else 0.0)

    def _age_of(self, topic: str, partition: int) -> LagAge:
        return self._ages.setdefault((topic, partition), LagAge())
