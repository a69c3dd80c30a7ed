"""Phoenix: what is annotated, and what an annotation becomes."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.interactions import FeedbackGiven, Target
from schemas.waiting import FeedbackReferred, QueryNamed
from tests.unit.format_events import events_of, payload_of, refusal_of

SPAN = {"span_id": "b7ad", "name": "accuracy", "annotator_kind": "LLM"}


@pytest.mark.parametrize(
    ("name", "result", "said"),
    [
        ("accuracy", {"score": 0.5}, {"kind": "score", "value": 0.5}),
        ("accuracy", {"score": 0.5, "explanation": "why"}, {"kind": "score", "value": 0.5, "text": "why"}),
        ("accuracy", {"explanation": "why"}, {"kind": "comment", "text": "why"}),
        ("accuracy", {"label": "wrong"}, {"kind": "comment", "text": "wrong"}),
        ("accuracy", {"label": "wrong", "score": 0}, {"kind": "score", "value": 0.0}),
        ("User feedback", {"label": "👎"}, {"kind": "thumb", "value": -1.0}),
        ("user_feedback", {"label": "thumbs-up", "score": 1}, {"kind": "thumb", "value": 1.0}),
        ("user_feedback", {"score": 0}, {"kind": "thumb", "value": -1.0}),
        ("sentiment", {"label": "positive", "score": 1}, {"kind": "score", "value": 1.0}),
    ],
)
def test_what_an_annotation_of_a_span_becomes(
    name: str, result: dict[str, Any], said: dict[str, Any]
) -> None:
    attributes: Any = {"label": result["label"]} if "label" in result else {}
    assert payload_of("phoenix", {**SPAN, "name": name, "result": result}) == FeedbackReferred(
        reference="span:b7ad",
        target=Target(kind="span", span_id="b7ad"),
        rater="llm",
        name=name,
        attributes=attributes,
        **said,
    )


def test_a_trace_is_a_query() -> None:
    given = payload_of(
        "phoenix", {"trace_id": "t-1", "name": "n", "annotator_kind": "CODE", "result": {"score": 2}}
    )
    assert given == FeedbackGiven(query_id="t-1", kind="score", value=2.0, rater="code", name="n")


@pytest.mark.parametrize(
    ("result", "kind", "value"),
    [
        ({"label": "relevant", "score": 0.9}, "label", 1.0),
        ({"label": "irrelevant"}, "label", 0.0),
        ({"score": 1}, "label", 1.0),
        ({"score": 0.4}, "score", 0.4),
    ],
)
def test_a_document_stands_one_rank_below_its_position(
    result: dict[str, Any], kind: str, value: float
) -> None:
    given = payload_of("phoenix", {**SPAN, "name": "relevance", "document_position": 2, "result": result})
    assert given.target == Target(kind="document", retrieval_id="b7ad", rank=3)
    assert (given.kind, given.value, given.reference) == (kind, value, "span:b7ad")


def test_envelopes_notes_and_ids() -> None:
    one = {**SPAN, "result": {"score": 1}, "identifier": "i", "metadata": {"page": 2}}
    (alone,) = events_of("phoenix", one)
    enclosed, other = events_of("phoenix", {"data": [one, {**one, "identifier": "j"}]})
    assert alone.identity == enclosed.identity != other.identity
    assert payload_of("phoenix", one).attributes == {"identifier": "i", "metadata.page": 2}
    given = payload_of("phoenix", one).given(QueryNamed(reference="span:b7ad", query_id="q-1"))
    assert given.attributes == {"identifier": "i", "metadata.page": 2}
    note = payload_of("phoenix", {"data": {"span_id": "b7ad", "note": "clear"}})
    assert (note.kind, note.text, note.name, note.rater) == ("comment", "clear", "note", "human")


@pytest.mark.parametrize(
    ("piece", "field"),
    [
        ({"session_id": "s", "name": "n", "result": {"score": 1}}, "trace_id"),
        ({"name": "n", "result": {"score": 1}}, "span_id"),
        ({**SPAN}, "result"),
        ({**SPAN, "result": {"label": " "}}, "result"),
        ({**SPAN, "result": {"score": "high"}}, "result.score"),
        ({**SPAN, "document_position": -1, "result": {"score": 1}}, "document_position"),
    ],
)
def test_a_refusal_names_the_field(piece: dict[str, Any], field: str) -> None:
    assert refusal_of("phoenix", piece).field == field
