"""MLflow: what an assessment becomes."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.interactions import FeedbackGiven, Target
from tests.unit.format_events import events_of, payload_of, refusal_of

ONE: dict[str, Any] = {
    "assessment_name": "accuracy",
    "trace_id": "tr-0af7",
    "source": {"source_type": "LLM_JUDGE", "source_id": "judge-1"},
    "create_time": "2026-03-02T09:29:00.123Z",
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"feedback": {"value": 0.5}, "rationale": "why"}, {"kind": "score", "value": 0.5, "text": "why"}),
        ({"feedback": {"value": True}}, {"kind": "score", "value": 1.0}),
        ({"feedback": {"value": "yes"}}, {"kind": "comment", "text": "yes"}),
        ({"feedback": {"value": ["a"]}}, {"kind": "comment", "text": '["a"]'}),
        ({"expectation": {"value": "By card."}}, {"kind": "correction", "text": "By card."}),
        ({"expectation": {"value": {"n": 1}}}, {"kind": "correction", "text": '{"n":1}'}),
        (
            {"expectation": {"serialized_value": {"value": "[1]", "serialization_format": "JSON_FORMAT"}}},
            {"kind": "correction", "text": "[1]"},
        ),
    ],
)
def test_what_an_assessment_becomes(change: dict[str, Any], said: dict[str, Any]) -> None:
    value = change.get("feedback", {}).get("value")
    label: Any = {"label": value} if isinstance(value, str) else {}
    assert payload_of("mlflow", {"assessment": {**ONE, **change}}) == FeedbackGiven(
        query_id="0af7",
        rater="llm",
        name="accuracy",
        attributes={**label, "source_id": "judge-1"},
        **said,
    )


def test_a_thumb_of_a_person_on_a_span() -> None:
    person = {**ONE, "assessment_name": "thumbs_up", "source": {"source_type": "HUMAN"}, "span_id": "b7ad"}
    given = payload_of("mlflow", {**person, "feedback": {"value": False}})
    assert (given.kind, given.value, given.rater) == ("thumb", -1.0, "human")
    assert given.target == Target(kind="span", span_id="b7ad")


def test_the_id_holds_the_clients_time() -> None:
    said = {**ONE, "feedback": {"value": 1}}
    first, again, later = events_of("mlflow", said, said, {**said, "create_time": "2026-03-02T09:30:00Z"})
    assert (first.identity, first.contenthash) == (again.identity, again.contenthash)
    assert later.identity != first.identity


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({}, "feedback"),
        ({"feedback": {}}, "feedback.value"),
        ({"feedback": {"error": {"error_code": "TIMEOUT"}}}, "feedback.value"),
        ({"expectation": {}}, "expectation.value"),
        ({"trace_id": "", "feedback": {"value": 1}}, "trace_id"),
        ({"create_time": "x", "feedback": {"value": 1}}, "create_time"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, Any], field: str) -> None:
    assert refusal_of("mlflow", {**ONE, **change}).field == field
