"""Rows → columns: the columns of `streams.tables`, of one length, each of the form that its type needs."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from msgspec import Struct
from msgspec.structs import replace

from schemas.codec import encode_event, seal_event
from schemas.documents import DocumentRemoved, DocumentStored, text_hash
from schemas.interactions import Exposure, FeedbackGiven, QueryAsked, Target
from schemas.lifecycle import TenantConfigured
from schemas.rejections import EventRejected
from streams.columns import (
    Columns,
    contribution_columns,
    document_columns,
    episode_columns,
    event_columns,
    lifecycle_columns,
    rejected_columns,
    to_microseconds,
)
from streams.fold import fold_episode
from streams.records import Arrival, read_record
from streams.tables import TABLES
from tests.query_story import START, QueryStory

NUMPY: dict[str, type[np.integer[Any]]] = {
    "UInt8": np.uint8,
    "UInt32": np.uint32,
    "UInt64": np.uint64,
    "Int32": np.int32,
    "Int64": np.int64,
    "DateTime64(6, 'UTC')": np.int64,
}


def fits(value: Any, kind: str) -> bool:
    """The value is one that this ClickHouse type can hold."""
    if kind.startswith("Array("):
        return isinstance(value, list) and all(fits(v, kind[6:-1]) for v in value)
    if kind.startswith("Nullable("):
        return value is None or fits(value, kind[9:-1])
    if kind in ("String", "LowCardinality(String)"):
        return isinstance(value, str | bytes)
    if kind == "Float64":
        return isinstance(value, float | int)
    limits = np.iinfo(NUMPY[kind])
    return bool(int(value) == value and limits.min <= value <= limits.max)


def check_columns(table: str, columns: Columns, rows: int) -> None:
    types = TABLES[table]
    assert set(columns) == set(types)
    for name, kind in types.items():
        column = columns[name]
        assert len(column) == rows, name
        if kind in NUMPY:
            assert column.dtype == NUMPY[kind], name
        assert all(fits(value, kind) for value in column), (name, kind, column)


def arrive(payload: Struct, id: str = "e1", offset: int = 7, **envelope: Any) -> Arrival:
    event = seal_event(payload, id=id, source="app", tenant="acme", recordedtime=START, **envelope)
    return Arrival(event, encode_event(event), "some-topic", 3, offset)


def full_story() -> QueryStory:
    story = QueryStory()
    story.ask()
    story.add(QueryAsked(query_id="q-1", text="again", device="phone"), "ask-2")
    story.serve("d1 d2 d3", latency_ms=12.5)
    story.serve("d3 d1", "r2", shadow=True)
    story.answer("d1", input_tokens=10, cost_usd=0.5)
    story.click("d2")
    story.click("d9")
    story.feel("thumb", 1, target={"kind": "answer", "answer_id": "a1"}, text="good")
    story.retract(story.feel("thumb", -1))
    story.records.append(read_record(replace(story.records[0].event, recordedtime=START.replace(hour=13))))
    story.add(QueryAsked(query_id="q-1", text="?", user="eve"), "ask")
    return story


def test_episodes_have_the_columns_of_their_table() -> None:
    waiting = QueryStory()
    waiting.feel("click")
    episodes = [full_story().fold(), waiting.fold()]
    columns = episode_columns(episodes)
    check_columns("episodes", columns, 2)
    assert columns["has_query"].tolist() == [1, 0]
    assert columns["waiting_feedback"].tolist() == [0, 1]
    assert columns["hit_document_ids"] == [["d1", "d2", "d3"], []]
    assert columns["shown_top_score"] == [1.0, None]
    assert columns["asked_at"] == [to_microseconds(START), None]
    assert (columns["clicks"].tolist(), columns["thumbs_up"].tolist()) == ([2, 1], [1, 0])
    assert (columns["repeats"].tolist(), columns["conflict_id"]) == ([1, 0], [["ask"], []])
    assert columns["superseded_id"] == [["ask-2"], []]
    assert columns["pair_document_id"][0] == ["d1", "d1", "d2"]
    check_columns("episodes", episode_columns([]), 0)


def test_parallel_arrays_have_one_length() -> None:
    columns = episode_columns([full_story().fold()])
    for prefix in ("hit_", "feedback_", "answer_", "pair_", "exposures_", "retracted_", "conflict_"):
        lengths = {len(values[0]) for name, values in columns.items() if name.startswith(prefix)}
        assert len(lengths) == 1, prefix


def test_the_rows_of_an_episode_are_of_the_set_of_its_records() -> None:
    story = full_story()
    first = story.fold()
    again = fold_episode(reversed(story.records))
    assert repr(episode_columns([first])) == repr(episode_columns([again]))
    story.click("d1")
    assert repr(episode_columns([story.fold()])) != repr(episode_columns([first]))


def test_contributions_have_a_live_row_and_a_deleted_one_for_every_former_unit() -> None:
    story = full_story()
    exposed = QueryAsked(query_id="q-1", text="?", user="ada", exposures=(Exposure("ranker", "b"),))
    story.records[0] = read_record(arrive(exposed, "ask").event)
    columns = contribution_columns([story.fold()])
    check_columns("contributions", columns, 3)
    assert columns["unit"] == ["ada", "eve", "phone"]
    assert columns["deleted"].tolist() == [0, 1, 1]
    assert columns["record_count"].tolist() == [len(story.records)] * 3
    assert (columns["experiments"], columns["arms"]) == ([["ranker"], [], []], [["b"], [], []])
    assert columns["measures"][0][:2] == ["queries", "retrievals"]
    assert columns["measures"][1:] == [[], []]


def test_a_query_without_a_unit_contributes_nothing() -> None:
    story = QueryStory()
    story.ask(user=None)
    check_columns("contributions", contribution_columns([story.fold()]), 0)
    story.add(QueryAsked(query_id="q-1", text="later", user="ada"), "ask-2")
    columns = contribution_columns([story.fold()])
    assert (columns["unit"], columns["deleted"].tolist()) == (["ada"], [1])


def test_events_keep_their_bytes_and_say_where_they_stood() -> None:
    click = FeedbackGiven(query_id="q-1", kind="click", target=Target(kind="document", document_id="d1"))
    late = START - dt.timedelta(days=30)
    arrivals = [arrive(click), arrive(click, "e2", 8, time=late)]
    columns = event_columns(arrivals)
    check_columns("events", columns, 2)
    assert columns["query_id"] == ["q-1", "q-1"]
    assert columns["record"] == [a.value for a in arrivals]
    assert columns["event_time"] == [None, to_microseconds(late)]
    assert columns["effective_time"].tolist() == [to_microseconds(START)] * 2
    assert columns["time_doubted"].tolist() == [0, 1]
    assert (columns["partition"].tolist(), columns["offset"].tolist()) == ([3, 3], [7, 8])


def test_documents_have_the_columns_of_their_table() -> None:
    stored = DocumentStored(document_id="d1", title="Cards", text="Call us.", fields={"lang": "en"})
    removed = DocumentRemoved(document_id="d1")
    columns = document_columns([(arrive(stored), stored), (arrive(removed, "e2"), removed)])
    check_columns("documents", columns, 2)
    assert columns["removed"].tolist() == [0, 1]
    assert columns["text_hash"] == [text_hash("Cards", "Call us."), ""]
    assert columns["fields"] == ['{"lang":"en"}', "{}"]


def test_rejections_have_the_columns_of_their_table() -> None:
    refused = EventRejected(
        entry_id="x", reason="invalid_json", message="no JSON", original=b"\xff{", event_id="theirs"
    )
    columns = rejected_columns([(arrive(refused, "ours"), refused)])
    check_columns("rejected", columns, 1)
    assert (columns["rejection_id"], columns["event_id"]) == (["ours"], ["theirs"])
    assert columns["original"] == [b"\xff{"]


def test_lifecycle_has_the_columns_of_its_table() -> None:
    arrivals = [arrive(TenantConfigured(mode="auto"), causationid="me"), arrive(TenantConfigured(), "e2")]
    columns = lifecycle_columns(arrivals, ["", "nothing changes"])
    check_columns("lifecycle", columns, 2)
    assert columns["causation_id"] == ["me", ""]
    assert columns["ignored"] == ["", "nothing changes"]


@pytest.mark.parametrize("year", [1970, 2025, 2105])
def test_times_are_exact_to_the_microsecond(year: int) -> None:
    moment = dt.datetime(year, 12, 31, 23, 59, 59, 999_999, tzinfo=dt.UTC)
    back = dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=to_microseconds(moment))
    assert back == moment
