"""The stream worker's figures, from the reports of its batches."""

from __future__ import annotations

import time
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from api.http.metrics import make_metric
from infra.kafka.log import PartitionProgress
from schemas import telemetry
from streams.batch import BatchReport


class WorkerMetrics:
    """Counts what each batch did; the age of what it wrote is what users feel as delay."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._messages = make_metric(telemetry.STREAM_MESSAGES, registry)
        self._queries = make_metric(telemetry.STREAM_QUERIES, registry)
        self._lookups = make_metric(telemetry.STREAM_LOOKUPS, registry)
        self._rejections = make_metric(telemetry.STREAM_REJECTIONS, registry)
        self._stage = make_metric(telemetry.STREAM_STAGE_SECONDS, registry)
        self._lag = make_metric(telemetry.LAG_EVENTS, registry)
        self._age = make_metric(telemetry.STREAM_VISIBLE_SECONDS, registry)

    def observe(self, report: BatchReport) -> None:
        """Take one batch."""
        self._messages.labels(report.topic).inc(report.messages)
        self._queries.inc(report.queries)
        self._lookups.inc(report.lookups)
        for reason, number in report.rejected.items():
            self._rejections.labels(reason).inc(number)
        for stage, seconds in report.seconds.items():
            self._stage.labels(stage).observe(seconds)
        if report.oldest_received_s is not None:
            self._age.observe(max(0.0, time.time() - report.oldest_received_s))

    def observe_lag(self, progress: Mapping[str, Mapping[int, PartitionProgress]]) -> None:
        """Take one look at committed and end offsets."""
        for topic, partitions in progress.items():
            for partition, one in partitions.items():
                self._lag.labels(topic, partition).set(max(0, one.end - one.committed))
