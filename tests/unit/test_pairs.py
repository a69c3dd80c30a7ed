"""The label model by example: what makes a pair, what makes none, and what each leads back to."""

from __future__ import annotations

import pytest

from schemas.episodes import TrainingPair
from schemas.interactions import FeedbackKind, Rater
from streams.pairs import EVIDENCE, RATER_FACTOR
from tests.query_story import QueryStory

Short = tuple[str, str, int, float]


def short(pairs: tuple[TrainingPair, ...]) -> list[Short]:
    return [(p.document_id, p.kind, p.label, p.weight) for p in pairs]


def served() -> QueryStory:
    story = QueryStory()
    story.ask()
    story.serve("d1 d2 d3 d4")
    return story


def test_a_click_is_a_positive_and_what_stands_above_it_a_weak_negative() -> None:
    story = served()
    story.click("d3")
    click, skip = EVIDENCE["click"].weight, EVIDENCE["skip"].weight
    assert short(story.fold().pairs) == [
        ("d1", "skip", 0, skip),
        ("d2", "skip", 0, skip),
        ("d3", "click", 1, click),
    ]


def test_only_what_stands_above_the_lowest_click_and_was_not_clicked_was_skipped() -> None:
    story = served()
    story.click("d1")
    story.click("d4")
    skipped = [p.document_id for p in story.fold().pairs if p.kind == "skip"]
    assert skipped == ["d2", "d3"]


def test_a_document_clicked_in_another_list_was_not_skipped() -> None:
    story = served()
    story.serve("d2 d5", "r2")
    story.click("d3", retrieval_id="r1")
    story.click("d2", retrieval_id="r2")
    skipped = [(p.retrieval_id, p.document_id) for p in story.fold().pairs if p.kind == "skip"]
    assert skipped == [("r1", "d1")]


def test_a_pair_carries_its_list_and_leads_back_to_its_events() -> None:
    story = QueryStory()
    query = story.ask("where is my card")
    retrieval = story.serve("d1 d2")
    click = story.click("d1")
    (pair,) = story.fold().pairs
    assert pair == TrainingPair(
        query="where is my card",
        document_id="d1",
        text_hash="hash-d1",
        label=1,
        weight=EVIDENCE["click"].weight,
        kind="click",
        retrieval_id="r1",
        pipeline_version="1.0.0",
        rank=1,
        propensity=0.5,
        events=(click, retrieval, query),
    )


def test_equal_evidence_is_one_pair_that_names_all_its_events() -> None:
    story = served()
    first = story.click("d1")
    second = story.click("d1")
    (pair,) = story.fold().pairs
    assert pair.events[:2] == tuple(sorted((first, second)))


def test_contradicting_evidence_stays() -> None:
    story = served()
    story.click("d1")
    story.feel("thumb", -1, target={"kind": "document", "document_id": "d1"})
    story.feel("thumb", 1, target={"kind": "document", "document_id": "d1"})
    assert [(p.kind, p.label) for p in story.fold().pairs] == [("click", 1), ("thumb", 0), ("thumb", 1)]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("thumb", 1, [("thumb", 1, 1.0)]),
        ("thumb", -1, [("thumb", 0, 1.0)]),
        ("thumb", 0, []),
        ("thumb", None, []),
        ("stars", 5, [("stars", 1, 1.0)]),
        ("stars", 4, [("stars", 1, 0.5)]),
        ("stars", 3, []),
        ("stars", 2, [("stars", 0, 0.5)]),
        ("stars", 1, [("stars", 0, 1.0)]),
        ("label", 1, [("label", 1, 1.0)]),
        ("label", 0, [("label", 0, 1.0)]),
        ("label", 0.4, []),
        ("copy", None, [("copy", 1, 0.9)]),
        ("dwell", 30, [("dwell", 1, 0.8)]),
        ("dwell", 29.9, []),
        ("dwell", 5, []),
        ("dwell", 4.9, [("bounce", 0, 0.3)]),
        ("score", 0.9, []),
        ("comment", None, []),
        ("abandonment", None, []),
    ],
)
def test_what_feedback_on_a_shown_document_says(
    kind: FeedbackKind, value: float | None, expected: list[tuple[str, int, float]]
) -> None:
    story = served()
    story.feel(kind, value, target={"kind": "document", "document_id": "d1"})
    assert [(p.kind, p.label, p.weight) for p in story.fold().pairs] == expected


@pytest.mark.parametrize("rater", ["llm", "code"])
def test_a_model_or_a_rule_weighs_less_than_a_person(rater: Rater) -> None:
    story = served()
    story.feel("label", 1, rater=rater, target={"kind": "document", "document_id": "d1"})
    (pair,) = story.fold().pairs
    assert pair.weight == EVIDENCE["label"].weight * RATER_FACTOR[rater] < EVIDENCE["label"].weight


@pytest.mark.parametrize("kind", ["click", "copy", "dwell"])
def test_behaviour_on_what_was_not_shown_makes_no_pair(kind: FeedbackKind) -> None:
    story = served()
    story.serve("d9", "r2", shadow=True)
    for target in ({"document_id": "d8"}, {"document_id": "d9", "retrieval_id": "r2"}):
        story.feel(kind, 60, target={"kind": "document", **target})
    episode = story.fold()
    assert [f.attribution for f in episode.feedback] == ["not_shown"] * 2
    assert episode.pairs == ()


def test_a_judgement_of_what_was_not_shown_is_a_pair_of_rank_0() -> None:
    story = served()
    story.feel("label", 1, target={"kind": "document", "document_id": "d9"})
    (pair,) = story.fold().pairs
    assert (pair.rank, pair.retrieval_id, pair.text_hash, pair.propensity) == (0, "", None, None)
    shadow = story.serve("d8", "r2", shadow=True)
    story.feel("label", 0, target={"kind": "document", "document_id": "d8", "retrieval_id": "r2"})
    (_, judged) = story.fold().pairs
    assert (judged.rank, judged.retrieval_id, judged.text_hash) == (0, "r2", "hash-d8")
    assert judged.propensity is None
    assert shadow in judged.events


def test_a_thumb_up_on_an_answer_credits_the_shown_documents_that_it_cites() -> None:
    story = served()
    answer = story.answer("d2 d9")
    story.answer("d4", "a2")
    thumb = story.feel("thumb", 1, target={"kind": "answer", "answer_id": "a1"})
    (pair,) = story.fold().pairs
    assert short((pair,)) == [("d2", "citation", 1, EVIDENCE["citation"].weight)]
    assert pair.events[0] == thumb
    assert answer in pair.events


def test_a_thumb_on_an_unnamed_answer_is_for_the_latest() -> None:
    story = served()
    story.answer("d2", "a1")
    story.answer("d4", "a2")
    story.feel("thumb", 1, target={"kind": "answer"})
    assert [p.document_id for p in story.fold().pairs] == ["d4"]


def test_a_thumb_down_on_an_answer_blames_no_document() -> None:
    story = served()
    story.answer("d2")
    story.feel("thumb", -1, target={"kind": "answer", "answer_id": "a1"})
    story.feel("thumb", 1, target={"kind": "answer", "answer_id": "unknown"})
    assert story.fold().pairs == ()


def test_without_its_query_feedback_makes_no_pair() -> None:
    story = QueryStory()
    story.serve("d1 d2")
    story.click("d2")
    assert story.fold().pairs == ()
    story.ask()
    assert len(story.fold().pairs) == 2


def test_an_old_pair_disappears_with_its_click() -> None:
    story = served()
    click = story.click("d2")
    assert len(story.fold().pairs) == 2
    story.retract(click)
    assert story.fold().pairs == ()


def test_the_table_of_evidence_is_what_pairs_may_be() -> None:
    assert all(0 < e.weight <= 1 and set(e.labels) <= {0, 1} for e in EVIDENCE.values())
    assert all(0 < factor <= 1 for factor in RATER_FACTOR.values())
