"""The promised views on the real engine: exact at every moment, whatever was merged or delivered again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_connect.driver.client import Client
from msgspec.json import decode as decode_json

from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.lag import write_lag
from infra.clickhouse.migrate import (
    claim_fold_version,
    drop_databases,
    load_migrations,
    migrate,
    written_fold_version,
)
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.kafka.log import PartitionProgress
from infra.settings import ClickHouseSettings
from schemas import lifecycle as lc
from schemas.codec import encode_event
from schemas.documents import DocumentStored
from schemas.envelope import Event
from schemas.errors import Fatal, Reason, Rejectable
from schemas.interactions import QueryAsked
from schemas.registry import BY_NAME
from schemas.rejections import rejection_entry_id
from streams.batch import BatchProcessor
from streams.fold import FOLD_VERSION
from streams.memory import MemoryLog
from streams.ports import TABLES
from streams.records import Arrival
from streams.rejecting import reject_arrival
from streams.settings import StreamSettings
from tests.lifecycle_events import event as step
from tests.lifecycle_events import whole_story
from tests.live_services import running_engine
from tests.small_log import (
    START,
    asked,
    clicked,
    conversation,
    messages_of,
    received_again,
    removed,
    retracted,
    sealed,
    served,
    stored,
)

pytestmark = pytest.mark.service

DATABASES = Databases("seen_store", "seen")
EMPTY = Databases("empty_store", "empty")
PROMISED = {
    "events": "tenant query_id source event_id type event_time received_time data",
    "episodes": "tenant query_id asked_at unit pipeline_version",
    "pairs": "tenant query_id query document_id label weight kind events pipeline_version",
    "contributions": "tenant unit query_id asked_at experiment arm measure value",
    "documents": "tenant document_id title text text_hash received_time",
    "rejected": "tenant entry_id reason message field event_source event_id original received_time",
    "lifecycle": "tenant event_id type causation_id data outcome reason partition offset",
    "quality_hourly": "tenant hour pipeline_version queries clicked click_ratio thumbs_up thumbs_down",
    "experiment_units": "tenant experiment unit arm excluded first_exposed_at measure queries value",
    "experiment_results": "tenant experiment arm metric units mean difference always_low always_high latest",
    "versions": "tenant version state parent dataset_id verdict ready proposed_at",
    "lag": "topic partition committed end_offset lag observed_at",
}


class Stack:
    """A store of its own, written by a processor as the worker does."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.rejected = MemoryLog()
        sink, lookup = ClickHouseRowSink(client, DATABASES), ClickHouseRecordLookup(client, DATABASES)
        self.processor = BatchProcessor(sink, lookup, self.rejected, StreamSettings())
        self.offsets: dict[str, int] = {}

    async def send(self, *events: Event) -> None:
        """Deliver every event twice, in batches of their topics."""
        for topic in dict.fromkeys(BY_NAME[event.type].topic for event in events):
            chosen = [event for event in events if BY_NAME[event.type].topic == topic]
            first = self.offsets.get(topic, 0)
            self.offsets[topic] = first + len(chosen)
            for _ in range(2):
                await self.processor.process(topic, messages_of(chosen, first_offset=first))
                self.processor.forget()

    def rows(self, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a statement with `@` for the database of the views."""
        return [
            tuple(row)
            for row in self.client.query(
                sql.replace("@", f"{DATABASES.views}."), parameters=parameters
            ).result_rows
        ]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseSettings]:
    with running_engine(tmp_path_factory.mktemp("engine")) as settings:
        yield settings


@pytest.fixture
def stack(engine: ClickHouseSettings) -> Iterator[Stack]:
    client = open_client(engine)
    migrate(client, DATABASES)
    for table in (*TABLES, "offsets"):
        client.command(f"TRUNCATE TABLE {DATABASES.store}.{table}")
    yield Stack(client)
    client.close()


@pytest.fixture
def empty(engine: ClickHouseSettings) -> Iterator[Client]:
    """A client of a store that was just laid out, in databases of its own."""
    client = open_client(engine)
    drop_databases(client, EMPTY)
    migrate(client, EMPTY)
    yield client
    client.close()


def test_migrating_again_applies_nothing_and_a_changed_file_is_refused(empty: Client) -> None:
    assert migrate(empty, EMPTY) == 0
    empty.command(
        f"INSERT INTO {EMPTY.store}.schema_state (kind, number, checksum) VALUES ('migration', 2, 'other')"
    )
    with pytest.raises(Fatal, match="migration 2"):
        migrate(empty, EMPTY)


def test_a_store_of_newer_code_is_left_alone(empty: Client) -> None:
    newer = len(load_migrations()) + 1
    empty.command(f"INSERT INTO {EMPTY.store}.schema_state (kind, number) VALUES ('migration', {newer})")
    with pytest.raises(Fatal, match="newer"):
        migrate(empty, EMPTY)


def test_only_one_fold_version_writes(empty: Client) -> None:
    assert written_fold_version(empty, EMPTY) is None
    for _ in range(2):
        claim_fold_version(empty, FOLD_VERSION, EMPTY)
    with pytest.raises(Fatal, match="ratchet rebuild"):
        claim_fold_version(empty, FOLD_VERSION + 1, EMPTY)


def test_every_promised_view_has_its_columns(stack: Stack) -> None:
    for view, columns in PROMISED.items():
        found = stack.client.query(f"SELECT * FROM {DATABASES.views}.{view}").column_names
        assert set(columns.split()) <= set(found), view


async def test_an_event_is_the_record_received_first(stack: Stack) -> None:
    early = asked("q1", at_s=3)
    late, other = received_again(early, at_s=9), asked("q1", user="eve", at_s=5)
    for event in (late, other, early):
        await stack.send(event)
    rows = stack.rows("SELECT event_id, received_time, content_hash FROM @events WHERE query_id = 'q1'")
    assert rows == [("q1-asked", early.recordedtime.replace(tzinfo=None), early.contenthash)]
    assert stack.rows("SELECT count() FROM @events") == [(1,)]
    assert stack.rows("SELECT record_count, repeats, unit FROM @episodes") == [(3, 1, "ada")]


def derived_id(subject: str, conflict: Event) -> str:
    parts = "\x1f".join((subject, conflict.source, conflict.id, conflict.contenthash))
    return rejection_entry_id(conflict.tenant, parts.encode())


async def test_a_conflict_shows_as_rejected_and_a_repeat_does_not(stack: Stack) -> None:
    conflict = clicked("q1", "d3", at_s=60)
    talk = conversation("q1")
    await stack.send(*talk, received_again(talk[-1], at_s=50), conflict)
    assert stack.rows("SELECT reason, event_id, entry_id, original FROM @rejected") == [
        (
            "conflict",
            "q1-click",
            derived_id("q1", conflict),
            encode_event(conflict).decode(),
        )
    ]


async def test_a_pair_leads_back_to_its_events_and_goes_with_its_feedback(stack: Stack) -> None:
    await stack.send(*conversation("q1"))
    found = stack.rows(
        "SELECT query, document_id, label, arraySort(arrayMap(e -> e.id, events)), pipeline_version "
        "FROM @pairs WHERE label = 1"
    )
    assert found == [("question q1", "d2", 1, ["q1-asked", "q1-click", "q1-served"], "1.0.0")]
    await stack.send(retracted("q1", "q1-click", at_s=90))
    assert stack.rows("SELECT count() FROM @pairs WHERE label = 1") == [(0,)]


async def test_feedback_before_its_query_waits(stack: Stack) -> None:
    await stack.send(clicked("q1", at_s=0))
    assert stack.rows("SELECT has_query, waiting_feedback FROM @episodes") == [(0, 1)]
    assert stack.rows("SELECT count() FROM @pairs") == [(0,)]
    await stack.send(asked("q1", at_s=100), served("q1", at_s=101))
    assert stack.rows("SELECT has_query, waiting_feedback FROM @episodes") == [(1, 0)]
    assert stack.rows("SELECT count() FROM @pairs WHERE label = 1") == [(1,)]


async def test_contributions_follow_the_unit_of_their_query(stack: Stack) -> None:
    await stack.send(*conversation("q1", user="bob", arm="new", at_s=10))
    clicks = "SELECT unit, experiment, arm, value FROM @contributions WHERE measure = 'clicked'"
    assert stack.rows(clicks) == [("bob", "exp", "new", 1.0)]
    # the same event id with an earlier received time: now this is the event, and bob has no part in it
    await stack.send(asked("q1", user="eve", at_s=5))
    assert stack.rows(clicks) == [("eve", "", "", 1.0)]


async def test_tenants_with_equal_ids_never_meet(stack: Stack) -> None:
    await stack.send(*conversation("q1"), *conversation("q1", tenant="other"), stored("d1", "one", "e1"))
    await stack.send(stored("d1", "two", "e1", tenant="other"), retracted("q1", "q1-click", tenant="other"))
    assert stack.rows("SELECT tenant, clicks FROM @episodes ORDER BY tenant") == [("acme", 1), ("other", 0)]
    assert stack.rows("SELECT tenant, text FROM @documents ORDER BY tenant") == [
        ("acme", "one"),
        ("other", "two"),
    ]
    assert stack.rows("SELECT DISTINCT tenant FROM @pairs WHERE label = 1") == [("acme",)]


async def test_documents_show_the_event_received_last(stack: Stack) -> None:
    old = stored("d1", "old", "e1", at_s=10)
    await stack.send(
        stored("d1", "new", "e2", at_s=20),
        old,
        # a client that sends its old event again, late
        received_again(old, at_s=99),
        stored("d2", "gone", "e3", at_s=1),
        removed("d2", "e4", at_s=2),
        stored("d3", "back", "e6", at_s=9),
        removed("d3", "e5", at_s=8),
    )
    assert stack.rows("SELECT document_id, text FROM @documents ORDER BY document_id") == [
        ("d1", "new"),
        ("d3", "back"),
    ]


async def test_data_is_the_event_s_byte_by_byte(stack: Stack) -> None:
    text = 'a "data":{"x":1} \\" \n\u2028 größe \U0001f50d {[}] ,"data":"y"'
    events = [
        sealed(QueryAsked(query_id=text, text=text, attributes={"data": text, "n": 1.0}), text, source=text),
        sealed(QueryAsked(query_id="plain", text=""), "plain"),
    ]
    await stack.send(*events)
    found = dict(stack.rows("SELECT query_id, data FROM @events"))
    assert found == {str(event.subject): bytes(event.data).decode() for event in events}
    assert stack.rows("SELECT count() FROM @events WHERE JSONExtractFloat(data, 'attributes', 'n') = 1") == [
        (1,)
    ]


async def test_another_text_under_a_used_event_id_shows_as_rejected_and_a_repeat_does_not(
    stack: Stack,
) -> None:
    old = stored("d1", "old", "e1", at_s=10)
    new = sealed(
        DocumentStored(document_id="d1", title='a "new" one', text="new", fields={"year": 7}), "e1", at_s=20
    )
    await stack.send(
        new,
        old,
        received_again(old, at_s=30),
        received_again(new, at_s=40),
        stored("d2", "other", "e1", at_s=20),
        stored("d1", "theirs", "e1", at_s=5, tenant="other"),
        stored("d3", "there", "e3", at_s=1),
        removed("d3", "e3", at_s=2),
    )
    assert stack.rows("SELECT tenant, document_id, text FROM @documents ORDER BY tenant, document_id") == [
        ("acme", "d1", "old"),
        ("acme", "d2", "other"),
        ("acme", "d3", "there"),
        ("other", "d1", "theirs"),
    ]
    rows = stack.rows(
        "SELECT tenant, reason, subject, event_source, event_id, event_type, received_time, original, "
        "replayable FROM @rejected ORDER BY subject"
    )
    assert [(*row[:7], decode_json(row[7])["data"], row[8]) for row in rows] == [
        (
            "acme",
            "conflict",
            "d1",
            "shop",
            "e1",
            "ratchet.document.stored.v1",
            new.recordedtime.replace(tzinfo=None),
            decode_json(new.data),
            1,
        ),
        (
            "acme",
            "conflict",
            "d3",
            "shop",
            "e3",
            "ratchet.document.removed.v1",
            (START + dt.timedelta(seconds=2)).replace(tzinfo=None),
            {"document_id": "d3"},
            1,
        ),
    ]
    counts = "SELECT uniqExact(entry_id), countIf(original_length = length(original)) FROM @rejected"
    assert stack.rows(counts) == [(2, 2)]


async def test_a_unit_counts_from_its_first_exposure_and_in_one_arm_only(stack: Stack) -> None:
    await stack.send(
        *conversation("before", user="ada", at_s=0),
        *conversation("first", user="ada", arm="new", at_s=100),
        *conversation("second", user="ada", at_s=200),
        asked("bob-1", user="bob", arm="control", at_s=300),
        asked("eve-1", user="eve", arm="control", at_s=400),
        asked("eve-2", user="eve", arm="new", at_s=500),
        *conversation("after", user="ada", at_s=9_000),
    )
    rows = stack.rows(
        "SELECT unit, arm, excluded, queries, value FROM @experiment_units "
        "WHERE experiment = 'exp' AND measure = 'clicked' ORDER BY unit"
    )
    assert rows == [("ada", "new", 0, 2, 2.0), ("bob", "control", 0, 1, 0.0), ("eve", "", 1, 2, 0.0)]
    assert stack.rows("SELECT DISTINCT arms FROM @experiment_units WHERE unit = 'eve'") == [
        (["control", "new"],)
    ]


async def test_quality_is_counted_by_hour_and_version(stack: Stack) -> None:
    await stack.send(*conversation("q1"), *conversation("q2"), asked("q3"), clicked("waits"))
    rows = stack.rows("SELECT hour, pipeline_version, queries, served, clicked FROM @quality_hourly")
    hour = START.replace(tzinfo=None)
    assert sorted(rows) == [(hour, "", 1, 0, 0), (hour, "1.0.0", 2, 2, 2)]


async def test_the_lifecycle_shows_what_was_ignored_and_versions_where_they_stand(stack: Stack) -> None:
    story = whole_story()
    await stack.send(*story, story[-1])
    rows = stack.rows("SELECT event_id, outcome FROM @lifecycle ORDER BY offset")
    assert [row[0] for row in rows] == [*(event.id for event in story), story[-1].id]
    assert [row[1] for row in rows] == ["accepted"] * len(story) + ["ignored"]
    versions = stack.rows("SELECT version, state, parent, verdict, ready FROM @versions ORDER BY version")
    assert versions == [("1.0.0", "retired", "", "", 1), ("1.1.0", "champion", "1.0.0", "admitted", 1)]


async def test_a_restarted_worker_folds_the_lifecycle_on(stack: Stack) -> None:
    story = whole_story()
    for event in story:  # `send` forgets after each: every state is folded again from the store
        await stack.send(event)
    assert stack.rows("SELECT count() FROM @lifecycle WHERE outcome = 'accepted'") == [(len(story),)]


async def test_results_are_what_the_learner_measured(stack: Stack) -> None:
    def measured(units: int) -> Event:
        result = lc.ArmResult(
            arm="new",
            metric="clicked",
            units=units,
            mean=0.5,
            always=lc.Measure(metric="clicked", estimate=0.1, low=-0.1, high=0.3, alpha=0.05),
        )
        payload = lc.ExperimentMeasured(experiment="exp", results=(result,), excluded_units=2)
        return step(payload, f"m{units}", minute=units)

    arms = (lc.Arm("control", 0.5), lc.Arm("new", 0.5))
    await stack.send(
        step(lc.ExperimentDefined(experiment="exp", arms=arms), "x1"),
        step(lc.ExperimentStarted(experiment="exp"), "x2", cause="x1"),
        measured(10),
        measured(20),
    )
    rows = stack.rows(
        "SELECT arm, metric, units, mean, difference, always_low, always_high, excluded_units, latest "
        "FROM @experiment_results ORDER BY units"
    )
    assert rows == [
        ("new", "clicked", 10, 0.5, 0.1, -0.1, 0.3, 2, 0),
        ("new", "clicked", 20, 0.5, 0.1, -0.1, 0.3, 2, 1),
    ]


def rejection_of(event: Event) -> Event:
    arrival = Arrival(event, encode_event(event), "interactions", 0, 0)
    return reject_arrival(arrival, Rejectable(Reason.FOLD_FAILED, "test"))


async def test_a_rejected_entry_goes_when_its_event_is_stored(stack: Stack) -> None:
    click, other = clicked("q1", at_s=5), clicked("q1", "d3", at_s=5)
    await stack.send(rejection_of(click))
    assert stack.rows("SELECT event_id, reason, subject FROM @rejected") == [
        ("q1-click", "fold_failed", "q1")
    ]
    await stack.send(other)  # its identity, but another content: the entry stands
    assert stack.rows("SELECT count() FROM @rejected WHERE reason = 'fold_failed'") == [(1,)]
    await stack.send(click)
    assert stack.rows("SELECT count() FROM @rejected WHERE reason = 'fold_failed'") == [(0,)]


async def test_a_rejected_entry_goes_when_a_person_discards_or_replays_it(stack: Stack) -> None:
    first, second = rejection_of(clicked("q1")), rejection_of(clicked("q2"))
    await stack.send(first, second)
    assert first.subject is not None
    assert second.subject is not None
    await stack.send(sealed(lc.RejectionDiscarded(entry_id=first.subject, reason="spam"), "discard"))
    assert stack.rows("SELECT entry_id FROM @rejected") == [(second.subject,)]
    mended = clicked("q2", "d1", event_id="mended", at_s=70)
    replayed = lc.RejectionReplayed(
        entry_id=second.subject, event_source="shop", event_id="mended", subject="q2"
    )
    await stack.send(sealed(replayed, "replay"))
    assert stack.rows("SELECT entry_id FROM @rejected") == [(second.subject,)]
    await stack.send(mended)
    assert stack.rows("SELECT count() FROM @rejected") == [(0,)]


def test_lag_shows_the_last_look(stack: Stack) -> None:
    for second, committed in ((1, 5), (2, 8)):
        progress = {"interactions": {0: PartitionProgress(committed, 10), 1: PartitionProgress(0, 0)}}
        write_lag(stack.client, progress, START + dt.timedelta(seconds=second), DATABASES)
    rows = stack.rows("SELECT partition, committed, end_offset, lag FROM @lag ORDER BY partition")
    assert rows == [(0, 8, 10, 2), (1, 0, 0, 0)]


def test_a_poll_for_one_event_reads_by_primary_key(stack: Stack) -> None:
    stack.client.command(
        f"""
        INSERT INTO {DATABASES.store}.events (tenant, query_id, source, event_id, content_hash, received_time)
        SELECT 'acme', 'q' || leftPad(toString(intDiv(number, 4)), 9, '0'), 'shop', toString(number), 'h',
               toDateTime64('2026-01-01 00:00:00', 6, 'UTC') + number
        FROM numbers(200000)
        """
    )
    where = "tenant = 'acme' AND query_id = 'q000030000' AND event_id = '120001'"
    query = f"SELECT event_id FROM @events WHERE {where}"
    assert stack.rows(query) == [("120001",)]
    plan = "\n".join(row[0] for row in stack.rows(f"EXPLAIN indexes = 1 {query}"))
    granules = [line.split(":")[-1].split("/") for line in plan.splitlines() if "Granules: " in line]
    read, whole = next((int(g[0]), int(g[1])) for g in granules if len(g) == 2)
    assert whole > 300
    assert read <= 2, plan
