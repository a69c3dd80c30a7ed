"""What the processes count: requests without a route or a key, the log, the store, lag by age, the disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from api.http.metrics import HttpMetrics, make_metric
from api.processes.inbox import InboxMetrics
from api.processes.lag_age import LagAge
from api.processes.measured import MeasuredLog, MeasuredLookup, MeasuredSink, watch_disk
from api.processes.worker_metrics import WorkerMetrics
from infra.clickhouse.engine.metrics import EngineMetrics
from infra.kafka.log import PartitionProgress
from ingest.memory import MemoryEventLog
from schemas import telemetry
from schemas.telemetry import METRICS
from schemas.topics import INTERACTIONS
from streams.batch import BatchProcessor, BatchReport
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Block
from streams.settings import StreamSettings
from tests.small_log import asked, clicked, messages_of, served
from tests.unit.http_door import ACME, ONE, Full, Site, query

T = 1_772_443_800.0


def counted(site: Site, name: str, **labels: str) -> float | None:
    return site.metrics.registry.get_sample_value(name, labels)


async def test_requests_without_a_route_are_counted_under_no_path_of_the_caller() -> None:
    site = Site()
    assert (await site.send("GET", "/v1/nothing")).status_code == 404
    assert (await site.send("GET", "/v1/else")).status_code == 404
    assert (await site.send("PUT", "/v1/events")).status_code == 405
    assert (await site.send("BREW", "/v1/events")).status_code == 405
    requests = "ratchet_http_requests_total"
    assert counted(site, requests, route="other", method="GET", status="404") == 2
    assert counted(site, requests, route="other", method="PUT", status="405") == 1
    assert counted(site, requests, route="other", method="other", status="405") == 1
    # a 404 that a route answers is counted once, by the route
    assert (await site.send("GET", "/v1/schemas/none")).status_code == 404
    assert counted(site, requests, route="other", method="GET", status="404") == 2
    assert counted(site, requests, route="/v1/schemas/{event_type}", method="GET", status="404") == 1


async def test_requests_without_a_known_key_are_counted_and_not_kept() -> None:
    site = Site()
    body = b'{"text": "hello"}'
    for headers in ({}, {"authorization": "Bearer unknown"}):
        answer = await site.send("POST", "/v1/queries", body, {**headers, "content-type": "application/json"})
        assert answer.status_code == 401
    assert counted(site, "ratchet_http_unauthenticated_requests_total") == 2
    assert counted(site, "ratchet_http_unauthenticated_bytes_total") == 2 * len(body)
    assert not any(site.log.records.values())
    await site.send("POST", "/v1/queries", {"text": "hello"}, ACME)
    assert counted(site, "ratchet_http_unauthenticated_requests_total") == 2


async def test_counters_of_events_begin_at_zero() -> None:
    site = Site()
    events = "ratchet_ingest_events_total"
    assert counted(site, events, door="http", status="accepted") == 0
    await site.send("POST", "/v1/events", query(), ONE)
    assert counted(site, events, door="http", status="accepted") == 1
    assert counted(site, events, door="http", status="unconfirmed") == 0


async def test_the_log_is_counted_by_topic_and_timed() -> None:
    registry = CollectorRegistry()
    log = MeasuredLog(MemoryEventLog(), registry)
    events = [asked("q1"), asked("q2")]
    await log.append(events)
    confirmed = {"topic": "interactions", "status": "confirmed"}
    assert registry.get_sample_value("ratchet_log_records_total", confirmed) == 2
    size = sum(len(event.data) for event in events)
    assert registry.get_sample_value("ratchet_log_data_bytes_total", {"topic": "interactions"}) == size
    assert registry.get_sample_value("ratchet_log_confirm_seconds_count") == 1
    with pytest.raises(Exception, match="full"):
        await MeasuredLog(Full(), CollectorRegistry()).append(events)


async def test_the_store_is_counted_by_table_and_memory_by_what_it_lacked() -> None:
    registry = CollectorRegistry()
    store = MemoryStore()
    sink, lookup = MeasuredSink(store, registry), MeasuredLookup(store, registry)

    def rows(table: str) -> float | None:
        return registry.get_sample_value("ratchet_stream_written_rows_total", {"table": table})

    processor = BatchProcessor(sink, lookup, MemoryLog(), StreamSettings())
    await processor.process(INTERACTIONS, messages_of([asked("q1"), asked("q2"), served("q1")]))
    assert (rows("events"), rows("episodes")) == (3, 2)
    assert registry.get_sample_value("ratchet_stream_lookups_found_total") == 0
    await processor.process(INTERACTIONS, messages_of([clicked("q1")], first_offset=3))
    assert registry.get_sample_value("ratchet_stream_lookups_found_total") == 0
    processor.forget()
    await processor.process(INTERACTIONS, messages_of([clicked("q2"), asked("q3")], first_offset=4))
    assert registry.get_sample_value("ratchet_stream_lookups_found_total") == 1
    assert rows("episodes") == 5


async def test_blocks_of_bytes_are_counted_in_bytes() -> None:
    registry = CollectorRegistry()
    await MeasuredSink(Taking(), registry).insert(Block("events", 7, b"0123456789"))
    assert registry.get_sample_value("ratchet_stream_written_bytes_total", {"table": "events"}) == 10


class Taking(MemoryStore):
    """Takes blocks of any payload."""

    async def insert(self, block: Block) -> None:
        assert block.rows


def progress(committed: int, end: int) -> dict[str, dict[int, PartitionProgress]]:
    return {"interactions": {3: PartitionProgress(committed, end)}}


def test_a_batch_and_a_look_show_in_the_workers_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    monkeypatch.setattr("time.time", lambda: T)
    report = BatchReport(
        topic="interactions",
        messages=7,
        new_records=5,
        queries=4,
        lookups=3,
        rejected={"fold_failed": 1},
        oldest_received_s=T - 2,
        seconds={"fold": 0.01},
    )
    metrics.observe(report)
    topic = {"topic": "interactions"}
    assert registry.get_sample_value("ratchet_stream_batch_messages_sum", topic) == 7
    assert registry.get_sample_value("ratchet_stream_new_records_total", topic) == 5
    where = {"topic": "interactions", "partition": "3"}
    metrics.note_oldest(progress(10, 20), {"interactions": {3: T - 400}})
    metrics.observe_lag(progress(10, 20))
    assert registry.get_sample_value("ratchet_stream_lag_events", where) == 10
    assert registry.get_sample_value("ratchet_stream_committed_events", where) == 10
    assert registry.get_sample_value("ratchet_stream_lag_seconds", where) == 400
    metrics.observe_lag(progress(20, 20))
    assert registry.get_sample_value("ratchet_stream_lag_seconds", where) == 0
    metrics.observe_waiting(12, T - 30)
    assert registry.get_sample_value("ratchet_waiting_feedback_events") == 12
    assert registry.get_sample_value("ratchet_waiting_oldest_seconds") == 30
    metrics.observe_waiting(0, None)
    assert registry.get_sample_value("ratchet_waiting_oldest_seconds") == 0


def test_a_lag_ages_from_the_look_before_which_its_record_came() -> None:
    age = LagAge()
    assert age.look(committed=100, end=100, now_s=0) == 0
    assert age.look(100, 100, 10) == 0
    # ten records came between 10 and 12 s
    assert age.look(100, 110, 12) == 2
    assert age.look(100, 110, 14) == 4
    # five of them are committed: the next one came half-way between the looks
    assert age.look(105, 110, 14) == pytest.approx(14 - 11)
    # all of them are committed, others came between 14 and 16 s
    assert age.look(110, 120, 16) == 2
    assert age.look(120, 120, 18) == 0


def test_a_worker_that_always_lags_a_little_is_never_old_and_one_that_stalls_is() -> None:
    age = LagAge()
    for second in range(5_000):
        assert age.look(max(0, 10 * (second - 3)), 10 * second, second) <= 3.0 + 1e-9
    for second in range(5_000, 10_000):
        seconds = age.look(10 * 4_997, 10 * second, second)
    assert seconds == pytest.approx(9_999 - 4_997, abs=30)
    # it goes on: what it commits now is younger; a long stall is dated coarsely
    assert age.look(10 * 9_000, 10 * 10_000, 10_000) == pytest.approx(1_000, abs=30)


def test_what_waited_before_the_first_look_is_at_least_as_old_as_that_look_or_as_was_read() -> None:
    age = LagAge()
    assert age.look(5, 50, 1_000) == 0
    assert age.look(5, 50, 1_060) == 60
    told = LagAge()
    told.note(5, 400.0)
    assert told.look(5, 50, 1_000) == 600
    assert told.look(5, 50, 1_060) == 660
    # between the record that was read and the first look they are taken as having come evenly
    assert told.look(27, 50, 1_060) == pytest.approx(1_060 - (400 + 600 * 22 / 45))


def test_a_disk_is_shown_before_its_directory_exists(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    watch_disk(tmp_path / "not" / "yet", registry)
    free = registry.get_sample_value("ratchet_disk_free_bytes")
    size = registry.get_sample_value("ratchet_disk_size_bytes")
    assert free is not None
    assert size is not None
    assert 0 < free < size


def names(registry: CollectorRegistry) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name without `_total` → kind and labels, of what a registry has."""
    collectors: list[Any] = list(registry._collector_to_names)
    return {one._name: (one._type, one._labelnames) for one in collectors if hasattr(one, "_labelnames")}


def test_every_metric_of_the_table_is_made_and_none_beside_it(tmp_path: Path) -> None:
    http = HttpMetrics()
    http.watch(in_flight_bytes=lambda: 0.0, caught_up=lambda: True)
    MeasuredLog(MemoryEventLog(), http.registry)
    worker = CollectorRegistry()
    WorkerMetrics(worker)
    MeasuredSink(MemoryStore(), worker)
    MeasuredLookup(MemoryStore(), worker)
    watch_disk(tmp_path, worker)
    engine = EngineMetrics()
    inbox = CollectorRegistry()
    InboxMetrics(inbox).observe_lag({("inbox.acme", 0): 1}, {("inbox.acme", 0): 2.0})
    made = names(http.registry) | names(worker) | names(engine._registry) | names(inbox)
    # the processes `learner` and `alerts` make theirs by hand, from the table
    learner = CollectorRegistry()
    for metric in METRICS:
        if metric.name.startswith(
            ("ratchet_learner_", "ratchet_quality_", "ratchet_alert_", "ratchet_raised_")
        ):
            make_metric(metric, learner)
    made |= names(learner)
    table = {m.name.removesuffix("_total"): (m.kind, m.labels) for m in METRICS}
    assert {name: made[name] for name in sorted(made)} == {name: table[name] for name in sorted(table)}


def test_the_engines_buckets_are_those_of_the_table() -> None:
    bounds = tuple(bound for bound in EngineMetrics().seconds._upper_bounds if bound != float("inf"))
    assert bounds == telemetry.ENGINE_SECONDS.buckets
