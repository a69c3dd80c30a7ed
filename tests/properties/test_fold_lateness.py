"""L4: late is normal: feedback before its query, retractions before and after what they retract."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from schemas.codec import encode_event, seal_event
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.ids import EventRef
from schemas.interactions import FeedbackRetracted, QueryAsked
from streams.columns import contribution_columns, episode_columns
from streams.fold import fold_episode
from streams.records import Record, decode_record
from tests.properties.fold_strategies import QUERY_ID, START, feedback, queries, record_values, sealed


def read(values: Sequence[bytes]) -> list[Record]:
    return [decode_record(value) for value in values]


def retraction_of(ref: EventRef, *, late_s: int) -> Record:
    payload = FeedbackRetracted(query_id=QUERY_ID, feedback_source=ref.source, feedback_id=ref.id)
    received = START.replace(second=late_s)
    event = seal_event(payload, id="undo", source="undoing", tenant="acme", recordedtime=received)
    return decode_record(encode_event(event))


def content(episode: Episode) -> tuple[object, ...]:
    """What is known of the query, without the counts of how it came to be known."""
    return (
        episode.text,
        episode.retrievals,
        episode.answers,
        episode.feedback,
        episode.pairs,
        episode.measurements,
    )


@given(record_values(), st.integers(0, 59))
@settings(max_examples=150, deadline=None)
def test_a_retraction_undoes_its_feedback_whenever_it_comes(values: list[bytes], late_s: int) -> None:
    records = read(values)
    given_feedback = fold_episode(records).feedback
    assume(given_feedback)
    ref = given_feedback[0].ref
    undo = retraction_of(ref, late_s=late_s)
    after, before = fold_episode([*records, undo]), fold_episode([undo, *records])
    assert msgspec.msgpack.encode(after) == msgspec.msgpack.encode(before)
    assert ref in after.retracted
    assert ref not in {f.ref for f in after.feedback}
    assert all(ref not in pair.events for pair in after.pairs)
    never = [r for r in records if r.event.ref != ref]
    if never:
        assert content(after) == content(fold_episode(never))


@given(record_values(), st.integers(0, 59))
@settings(max_examples=100, deadline=None)
def test_a_retraction_of_anything_but_feedback_has_no_effect(values: list[bytes], late_s: int) -> None:
    records = read(values)
    episode = fold_episode(records)
    known = {f.ref for f in episode.feedback} | set(episode.retracted)
    others = [r.event.ref for r in records if r.event.ref not in known]
    assume(others)
    after = fold_episode([*records, retraction_of(others[0], late_s=late_s)])
    assert content(after) == content(episode)
    assert after.retracted == episode.retracted


@given(record_values(), queries, st.sampled_from([2019, 2025, 2031]))
@settings(max_examples=150, deadline=None)
def test_feedback_waits_for_its_query_and_joins_when_it_comes(
    values: list[bytes], asked: QueryAsked, year: int
) -> None:
    waiting = [r for r in read(values) if not isinstance(r.payload, QueryAsked)]
    assume(waiting)
    episode = fold_episode(waiting)
    row = episode_columns([episode])
    assert (episode.query_ref, episode.asked_at, episode.unit, episode.text) == (None, None, None, "")
    assert (episode.pairs, episode.measurements) == ((), ())
    assert row["has_query"].tolist() == [0]
    assert row["waiting_feedback"].tolist() == [len(episode.feedback)]
    assert contribution_columns([episode])["tenant"] == []

    event = seal_event(asked, id="asked", source="late", tenant="acme", recordedtime=START.replace(year=year))
    joined = fold_episode([*waiting, decode_record(encode_event(event))])
    assert joined.query_ref == event.ref
    assert joined.feedback == episode.feedback
    assert joined.retrievals == episode.retrievals
    assert joined.measurements
    assert episode_columns([joined])["waiting_feedback"].tolist() == [0]
    assert contribution_columns([joined])["unit"] == ([asked.unit] if asked.unit else [])


@given(st.lists(sealed(feedback), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_feedback_alone_is_kept(events: list[Event]) -> None:
    records = [decode_record(encode_event(event)) for event in events]
    assert {f.ref for f in fold_episode(records).feedback} == {event.ref for event in events}
