"""Which list and document feedback belongs to: every rule of `streams.attribution`, by example."""

from __future__ import annotations

import datetime as dt

import pytest

from schemas.episodes import EpisodeFeedback
from schemas.interactions import Hit
from streams.attribution import find_hit
from tests.query_story import START, QueryStory


def only_feedback(story: QueryStory) -> EpisodeFeedback:
    (feedback,) = story.fold().feedback
    return feedback


def found(story: QueryStory) -> tuple[str, str, int | None, str]:
    feedback = only_feedback(story)
    return feedback.retrieval_id, feedback.document_id, feedback.rank, feedback.attribution


def test_a_click_belongs_to_the_list_that_it_names() -> None:
    story = QueryStory()
    story.serve("d1 d2", "r1")
    story.serve("d2 d1", "r2")
    story.click("d1", retrieval_id="r1")
    assert found(story) == ("r1", "d1", 1, "shown")


def test_a_click_that_names_no_list_belongs_to_the_latest_that_showed_the_document() -> None:
    story = QueryStory()
    story.serve("d1 d2", "r1")
    story.serve("d2 d1", "r2")
    story.serve("d2 d3", "r3")
    story.click("d1")
    assert found(story) == ("r2", "d1", 2, "shown")


def test_latest_is_by_effective_time_not_by_arrival() -> None:
    story = QueryStory()
    story.serve("d1", "later")
    record = story.records.pop()
    story.add(record.payload, "serve-later", time=START + dt.timedelta(seconds=60))
    story.serve("d2 d1", "earlier")
    story.click("d1")
    assert found(story) == ("later", "d1", 1, "shown")


def test_equal_times_are_decided_by_retrieval_id() -> None:
    story = QueryStory()
    for retrieval_id, documents in (("r2", "d1"), ("r1", "d2 d1")):
        story.serve(documents, retrieval_id)
        record = story.records.pop()
        story.add(record.payload, f"serve-{retrieval_id}", time=START)
    story.click("d1")
    assert found(story) == ("r2", "d1", 1, "shown")


def test_a_shadow_list_showed_nothing_to_anybody() -> None:
    story = QueryStory()
    story.serve("d1 d2", "r1")
    story.serve("d1", "r2", shadow=True)
    story.click("d1")
    assert found(story) == ("r1", "d1", 1, "shown")


def test_a_click_that_names_a_shadow_list_is_marked() -> None:
    story = QueryStory()
    story.serve("d1", "r1")
    story.serve("d1", "r2", shadow=True)
    story.click("d1", retrieval_id="r2")
    assert found(story) == ("r2", "d1", None, "not_shown")


def test_a_click_that_names_an_unknown_list_waits_for_it() -> None:
    story = QueryStory()
    story.serve("d1", "r1")
    story.click("d1", retrieval_id="r9")
    assert found(story) == ("r9", "d1", None, "not_shown")
    story.serve("d0 d1", "r9")
    assert found(story) == ("r9", "d1", 2, "shown")


def test_a_click_on_a_document_that_its_list_did_not_show_is_kept_and_marked() -> None:
    story = QueryStory()
    story.serve("d1", "r1")
    story.serve("d2", "r2")
    story.click("d2", retrieval_id="r1")
    assert found(story) == ("r1", "d2", None, "not_shown")


def test_a_click_on_a_document_that_no_list_showed_is_kept_and_marked() -> None:
    story = QueryStory()
    story.serve("d1", "r1")
    story.click("d9")
    assert found(story) == ("", "d9", None, "not_shown")


def test_a_rank_alone_names_the_document_that_stood_there() -> None:
    story = QueryStory()
    story.serve("d1 d2", "r1")
    story.serve("d3", "r2")
    story.feel("click", target={"kind": "document", "rank": 2})
    assert found(story) == ("r1", "d2", 2, "shown")


def test_where_rank_and_document_disagree_the_document_counts() -> None:
    story = QueryStory()
    story.serve("d1 d2")
    story.click("d2", rank=1)
    assert found(story) == ("r1", "d2", 2, "shown")


def test_a_rank_that_no_list_has_is_marked() -> None:
    story = QueryStory()
    story.serve("d1 d2")
    story.feel("click", target={"kind": "document", "retrieval_id": "r1", "rank": 3})
    assert found(story) == ("r1", "", None, "not_shown")


@pytest.mark.parametrize("named", [None, "r1"])
def test_feedback_without_a_document_is_about_none(named: str | None) -> None:
    story = QueryStory()
    story.serve("d1 d2")
    story.feel("thumb", 1, target={"kind": "retrieval", "retrieval_id": named})
    assert found(story) == (named or "", "", None, "")


def test_a_document_that_stands_twice_counts_at_its_best_rank() -> None:
    hits = (Hit("d1", 3), Hit("d2", 2), Hit("d1", 1))
    assert find_hit(hits, "d1", None) == Hit("d1", 1)
    assert find_hit(hits, None, 3) == Hit("d1", 3)
    assert find_hit(hits, "d9", 1) is None
