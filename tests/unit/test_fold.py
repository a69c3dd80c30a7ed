"""The fold by example: which record is the event, which event plays its role, and what is refused."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.documents import DocumentRemoved
from schemas.ids import EventRef
from schemas.interactions import QueryAsked
from streams.fold import fold_episode
from streams.records import Record, read_record
from tests.query_story import SOURCE, START, QueryStory


def later(record: Record, seconds: int) -> Record:
    event = record.event
    return read_record(replace(event, recordedtime=event.recordedtime + dt.timedelta(seconds=seconds)))


def test_the_first_received_of_one_identity_is_the_event() -> None:
    story = QueryStory()
    story.add(QueryAsked(query_id="q-1", text="second"), "ask", recordedtime=START.replace(minute=2))
    story.add(QueryAsked(query_id="q-1", text="first"), "ask", recordedtime=START.replace(minute=1))
    story.records.append(later(story.records[1], 5))
    episode = story.fold()
    assert episode.text == "first"
    assert (episode.record_count, episode.repeats) == (3, 1)
    assert episode.conflicts == (EventRef(SOURCE, "ask"),)
    assert episode.first_received_at == START.replace(minute=1)


def test_of_records_received_at_once_the_smaller_hash_is_the_event() -> None:
    story = QueryStory()
    for text in ("one", "two"):
        story.add(QueryAsked(query_id="q-1", text=text), "ask", recordedtime=START)
    smaller = min(story.records, key=lambda record: record.event.contenthash)
    assert story.fold().text == smaller.payload.text  # type: ignore[attr-defined]


def test_the_same_record_twice_is_one() -> None:
    story = QueryStory()
    story.ask()
    once = story.fold()
    story.records *= 3
    assert story.fold() == once
    assert (once.record_count, once.repeats) == (1, 0)


def test_a_second_question_of_another_id_is_superseded() -> None:
    story = QueryStory()
    first = story.ask("lost card", "ask-1", user="ada")
    second = story.ask("stolen card", "ask-2", user="bob")
    episode = story.fold()
    assert (episode.query_ref, episode.text, episode.unit) == (first, "lost card", "ada")
    assert episode.superseded == (second,)
    assert episode.former_units == ("bob",)


def test_a_list_sent_again_under_a_new_id_is_one_list() -> None:
    story = QueryStory()
    story.serve("d1")
    story.records.append(story.records[0])
    payload = story.records[0].payload
    again = story.add(payload, "serve-again")
    episode = story.fold()
    assert [r.retrieval_id for r in episode.retrievals] == ["r1"]
    assert episode.superseded == (again,)


def test_an_answer_sent_again_under_a_new_id_is_one_answer() -> None:
    story = QueryStory()
    story.answer()
    again = story.add(story.records[0].payload, "answer-again")
    episode = story.fold()
    assert (len(episode.answers), episode.superseded) == (1, (again,))


def test_the_unit_of_a_conflicting_record_is_a_former_unit() -> None:
    story = QueryStory()
    story.ask(user="ada")
    story.ask(user="bob")
    episode = story.fold()
    assert (episode.unit, episode.unit_kind, episode.former_units) == ("ada", "user", ("bob",))


@pytest.mark.parametrize(
    ("units", "unit", "kind"),
    [
        ({"user": "u", "session": "s", "device": "d"}, "u", "user"),
        ({"session": "s", "device": "d"}, "s", "session"),
        ({"device": "d"}, "d", "device"),
        ({"user": ""}, None, ""),
        ({}, None, ""),
    ],
)
def test_the_unit_is_the_user_else_the_session_else_the_device(
    units: dict[str, Any], unit: str | None, kind: str
) -> None:
    story = QueryStory()
    story.add(QueryAsked(query_id="q-1", text="?", **units), "ask")
    assert (story.fold().unit, story.fold().unit_kind) == (unit, kind)


def test_a_retraction_that_comes_first_waits_for_its_feedback() -> None:
    story = QueryStory()
    story.ask()
    story.retract(EventRef(SOURCE, "thumb"))
    assert story.fold().retracted == (EventRef(SOURCE, "thumb"),)
    story.feel("thumb", -1, id="thumb")
    episode = story.fold()
    assert episode.feedback == ()
    assert episode.retracted == (EventRef(SOURCE, "thumb"),)


def test_a_retraction_cannot_be_retracted() -> None:
    story = QueryStory()
    story.ask()
    thumb = story.feel("thumb", -1)
    undo = story.retract(thumb)
    story.retract(undo)
    episode = story.fold()
    assert episode.feedback == ()
    assert episode.retracted == (thumb,)


def test_the_version_served_is_that_of_the_latest_list_that_was_shown() -> None:
    story = QueryStory()
    story.serve("d1", "r1")
    story.serve("d2", "r2", shadow=True)
    assert story.fold().pipeline_version == "1.0.0"
    assert fold_episode(story.records[1:]).pipeline_version == ""


def test_no_records_are_refused() -> None:
    with pytest.raises(ValueError, match="there are none"):
        fold_episode([])


def test_records_of_two_queries_are_refused() -> None:
    story = QueryStory()
    story.ask()
    story.add(QueryAsked(query_id="q-2", text="?"), "other")
    with pytest.raises(ValueError, match="acme/q-2"):
        story.fold()


def test_an_event_that_is_about_no_query_is_refused() -> None:
    story = QueryStory()
    story.add(DocumentRemoved(document_id="q-1"), "gone")
    with pytest.raises(ValueError, match=r"document\.removed"):
        story.fold()
