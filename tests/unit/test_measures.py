"""The built-in measures by example."""

from __future__ import annotations

import pytest

from streams.measures import MEASURES
from tests.query_story import QueryStory

ALWAYS = {
    "queries",
    "retrievals",
    "retrieval_errors",
    "clicks",
    "clicked",
    "copies",
    "thumbs_up",
    "thumbs_down",
    "answers",
    "answer_errors",
    "abandoned",
    "reformulated",
}


def measured(story: QueryStory) -> dict[str, float]:
    return {m.measure: m.value for m in story.fold().measurements}


def test_a_bare_query_has_the_measures_that_are_always_defined() -> None:
    story = QueryStory()
    story.ask()
    values = measured(story)
    assert set(values) == ALWAYS
    assert values == {name: float(name == "queries") for name in ALWAYS}


def test_every_measure_is_in_the_table_and_in_its_order() -> None:
    story = QueryStory()
    story.ask()
    story.serve("d1", latency_ms=12.5)
    story.answer(latency_ms=300.0, cost_usd=0.25)
    story.feel("dwell", 4)
    story.feel("stars", 5)
    assert list(measured(story)) == [m.name for m in MEASURES]


def test_clicks_count_and_the_best_rank_gives_the_reciprocal_rank() -> None:
    story = QueryStory()
    story.ask()
    story.serve("d1 d2 d3 d4")
    story.click("d4")
    story.click("d2")
    story.click("d9")
    values = measured(story)
    assert (values["clicks"], values["clicked"], values["reciprocal_rank"]) == (3, 1, 0.5)


def test_a_served_list_without_a_click_has_reciprocal_rank_0() -> None:
    story = QueryStory()
    story.ask()
    story.serve("d1")
    assert measured(story)["reciprocal_rank"] == 0


def test_shadow_lists_are_no_service() -> None:
    story = QueryStory()
    story.ask()
    story.serve("d1", shadow=True, latency_ms=3.0)
    assert set(measured(story)) == ALWAYS
    assert measured(story)["retrievals"] == 0


@pytest.mark.parametrize(
    ("documents", "error", "zero_hits", "errors"),
    [("", None, 1, 0), ("d1", None, 0, 0), ("", "timeout", 0, 1)],
)
def test_an_empty_list_is_zero_hits_unless_it_is_an_error(
    documents: str, error: str | None, zero_hits: int, errors: int
) -> None:
    story = QueryStory()
    story.ask()
    story.serve(documents, error=error)
    values = measured(story)
    assert (values["zero_hits"], values["retrieval_errors"]) == (zero_hits, errors)


def test_feedback_is_counted_by_kind() -> None:
    story = QueryStory()
    story.ask()
    story.feel("thumb", 1)
    story.feel("thumb", 1)
    story.feel("thumb", -1)
    story.feel("stars", 4)
    story.feel("stars", 1)
    story.feel("dwell", 10)
    story.feel("dwell", 2.5)
    story.feel("copy")
    story.feel("abandonment")
    story.feel("follow_up", text="and abroad?")
    values = measured(story)
    assert (values["thumbs_up"], values["thumbs_down"], values["stars"]) == (2, 1, 2.5)
    assert (values["dwell_s"], values["copies"]) == (12.5, 1)
    assert (values["abandoned"], values["reformulated"]) == (1, 1)


def test_only_people_count() -> None:
    story = QueryStory()
    story.ask()
    story.feel("thumb", 1, rater="llm")
    story.feel("click", rater="code")
    assert measured(story)["thumbs_up"] == 0
    assert measured(story)["clicks"] == 0


def test_answers_count_with_their_errors_and_costs() -> None:
    story = QueryStory()
    story.ask()
    story.answer(answer_id="a1", cost_usd=0.25, latency_ms=100.0)
    story.answer(answer_id="a2", cost_usd=0.5, latency_ms=200.0, error="cut off")
    values = measured(story)
    assert (values["answers"], values["answer_errors"]) == (2, 1)
    assert (values["answer_cost_usd"], values["answer_latency_ms"]) == (0.75, 200)


def test_what_is_retracted_does_not_count() -> None:
    story = QueryStory()
    story.ask()
    story.retract(story.feel("thumb", -1))
    assert measured(story)["thumbs_down"] == 0


def test_a_query_that_is_unknown_has_no_measure() -> None:
    story = QueryStory()
    story.serve("d1")
    story.click("d1")
    assert story.fold().measurements == ()
