"""Which evidence of an episode reaches a dataset, and which is dropped for what reason."""

from __future__ import annotations

import datetime as dt

import msgspec

from learners.freeze.questions import Judgement, Look, gather_questions, question_id
from tests.unit.feedback_log import START, document, episode, pair

DOCUMENTS = {name: document(name) for name in ("a", "b", "c")}
NOW = {name: current.text_hash for name, current in DOCUMENTS.items()}


def test_evidence_that_does_not_hold_is_dropped_and_counted() -> None:
    episodes = [
        episode(
            1,
            "topic 1",
            shown=["a", "b", "gone"],
            hashes=[NOW["a"], "another text", None],
            pairs=[
                pair("a", shown_text=NOW["a"]),
                pair("b", rank=2, shown_text="another text"),
                pair("gone", rank=3),
                pair("c", rank=0, kind="label"),
            ],
        ),
        episode(2, "topic 1", asked=False, pairs=[pair("a")]),
        episode(3, "  ", pairs=[pair("a"), pair("b")]),
        episode(4, " ", asked=False),
    ]
    (question,), dropped, kept = gather_questions(episodes, DOCUMENTS)
    assert dropped == {"text_changed": 1, "document_gone": 1, "no_query": 1, "empty_text": 2}
    assert kept == 2
    assert question.looks == [Look("a", 1, 1.0)]
    assert question.judgements == [Judgement("c", 1, 0.7)]


def test_equal_texts_are_one_question_in_order_of_first_receipt() -> None:
    episodes = [
        episode(5, "topic 2 late", shown=["a"]),
        episode(9, " topic 1", shown=["a"], pairs=[pair("a")]),
        episode(3, "topic 1", shown=["b"]),
    ]
    for order in (episodes, episodes[::-1]):
        questions, _, _ = gather_questions(order, DOCUMENTS)
        assert [question.text for question in questions] == ["topic 1", "topic 2 late"]
        assert questions[0].id == question_id("topic 1")
        assert questions[0].queries == 2
        assert (questions[0].first_received_at - START).total_seconds() == 3
        assert set(questions[0].looks) == {Look("a", 1, 1.0), Look("b", 1, 0.0)}


def test_feedback_before_its_query_gives_a_question_no_earlier_place() -> None:
    """Else a question would lead a group that an earlier dataset has given to a split already."""
    late = msgspec.structs.replace(
        episode(5, "topic 1 again"), first_received_at=START + dt.timedelta(seconds=1)
    )
    questions, _, _ = gather_questions([late, episode(3, "topic 1")], {})
    assert [question.text for question in questions] == ["topic 1", "topic 1 again"]


def test_shadow_lists_were_seen_by_nobody() -> None:
    (question,), _, _ = gather_questions([episode(1, "topic 1", shown=["a", "b"], shadow=True)], DOCUMENTS)
    assert question.looks == []


def test_a_bounce_takes_back_a_click_and_a_citation_is_a_weak_use() -> None:
    pairs = [
        pair("a"),
        pair("a", kind="bounce", label=0),
        pair("b", rank=2, kind="citation"),
        pair("c", rank=3, kind="dwell"),
        pair("c", rank=3, kind="skip", label=0),
    ]
    (question,), _, _ = gather_questions(
        [episode(1, "topic 1", shown=["a", "b", "c"], pairs=pairs)], DOCUMENTS
    )
    assert question.looks == [Look("a", 1, 0.0), Look("b", 2, 0.7), Look("c", 3, 1.0)]


def test_a_query_without_a_list_still_makes_a_question() -> None:
    questions, dropped, kept = gather_questions([episode(1, "topic 1")], {})
    assert [question.text for question in questions] == ["topic 1"]
    assert (dropped, kept) == ({}, 0)
