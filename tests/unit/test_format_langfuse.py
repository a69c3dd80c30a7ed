"""Langfuse: what each kind of score becomes, what of the batch says something, what names no query."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from schemas.codec import decode_payload
from schemas.errors import Reason
from schemas.interactions import AnswerGiven, FeedbackGiven, QueryAsked, Target
from tests.unit.format_events import events_of, payload_of, refusal_of

SCORE = {"name": "accuracy", "value": 0.9, "traceId": "t-1"}


@pytest.mark.parametrize(
    ("score", "feedback"),
    [
        ({"value": 0.92, "dataType": "NUMERIC"}, {"kind": "score", "value": 0.92}),
        ({"value": 1}, {"kind": "score", "value": 1.0}),
        ({"value": True}, {"kind": "score", "value": 1.0}),
        ({"value": 0.0, "dataType": "BOOLEAN"}, {"kind": "score", "value": 0.0}),
        ({"name": "user-feedback", "value": 1.0, "dataType": "BOOLEAN"}, {"kind": "thumb", "value": 1.0}),
        ({"name": "thumbs_up", "value": 0.0, "dataType": "BOOLEAN"}, {"kind": "thumb", "value": -1.0}),
        ({"name": "user_feedback", "value": "thumbs-down"}, {"kind": "thumb", "value": -1.0}),
        ({"name": "user-feedback", "value": 4.0}, {"kind": "score", "value": 4.0}),
        ({"value": "partly"}, {"kind": "comment", "text": "partly"}),
        ({"value": "partly", "comment": "no price"}, {"kind": "comment", "text": "no price"}),
        ({"value": "so so", "dataType": "TEXT"}, {"kind": "comment", "text": "so so"}),
        ({"value": "Pay by card.", "dataType": "CORRECTION"}, {"kind": "correction", "text": "Pay by card."}),
        ({"value": 0.9, "comment": "good"}, {"kind": "score", "value": 0.9, "text": "good"}),
        ({"value": 0.9, "source": "EVAL"}, {"kind": "score", "value": 0.9, "rater": "llm"}),
        (
            {"value": 0.9, "observationId": "o-1"},
            {"kind": "score", "value": 0.9, "target": Target(kind="span", span_id="o-1")},
        ),
    ],
)
def test_what_a_score_becomes(score: dict[str, Any], feedback: dict[str, Any]) -> None:
    piece = {**SCORE, **score}
    given = payload_of("langfuse", piece)
    label: Any = (
        {"label": score["value"]} if isinstance(score["value"], str) and "dataType" not in score else {}
    )
    assert given == FeedbackGiven(query_id="t-1", name=piece["name"], attributes=label, **feedback)


def test_metadata_and_circumstances_are_attributes() -> None:
    metadata = {"page": 2, "tags": ["a"], "none": None, "deep": {"x": 1}}
    given = payload_of("langfuse", {**SCORE, "metadata": metadata, "environment": "prod", "configId": "c"})
    assert given.attributes == {
        "environment": "prod",
        "config_id": "c",
        "metadata.page": 2,
        "metadata.tags": '["a"]',
        "metadata.deep": '{"x":1}',
    }


def test_metadata_that_fits_no_attributes_is_kept_as_a_text() -> None:
    for metadata in ({"x" * 300: 1}, [1], "text", {str(n): n for n in range(500)}):
        given = payload_of("langfuse", {**SCORE, "metadata": metadata})
        assert list(given.attributes) == ["metadata"]


def test_ids_are_the_scores_own_else_of_its_content() -> None:
    (own,) = events_of("langfuse", {**SCORE, "id": "s-1"})
    assert (own.id, own.source) == ("s-1", "urn:ratchet:langfuse")
    first, second, other = events_of(
        "langfuse", SCORE, dict(reversed(SCORE.items())), {**SCORE, "value": 0.8}
    )
    assert (first.identity, first.contenthash) == (second.identity, second.contenthash)
    assert other.id != first.id
    entry = {"id": "e-1", "type": "score-create", "timestamp": "2026-03-02T09:29:00Z", "body": SCORE}
    (enclosed,) = events_of("langfuse", entry)
    assert enclosed.id == "e-1"
    assert enclosed.time == dt.datetime(2026, 3, 2, 9, 29, tzinfo=dt.UTC)


def test_the_batch_envelope() -> None:
    entries = [
        {
            "id": "e-1",
            "type": "trace-create",
            "timestamp": "2026-03-02T09:29:00Z",
            "body": {
                "id": "t-1",
                "input": "how do I pay",
                "userId": "u-1",
                "sessionId": "s-1",
                "name": "chat",
            },
        },
        {"id": "e-2", "type": "span-create", "body": {"id": "o-0", "traceId": "t-1", "name": "work"}},
        {"id": "e-3", "type": "generation-create", "body": {"id": "o-1", "traceId": "t-1", "model": "m"}},
        {
            "id": "e-4",
            "type": "generation-update",
            "body": {
                "id": "o-1",
                "traceId": "t-1",
                "model": "m",
                "output": {"role": "assistant", "content": "At the desk."},
                "startTime": "2026-03-02T09:29:00Z",
                "endTime": "2026-03-02T09:29:01.5Z",
                "usage": {"input": 10, "output": 5, "unit": "TOKENS"},
            },
        },
        {"id": "e-5", "type": "score-create", "body": SCORE},
        {"id": "e-6", "type": "sdk-log", "body": {"log": "x"}},
    ]
    events = events_of("langfuse", {"batch": entries, "metadata": {}})
    assert [event.id for event in events] == ["e-1", "e-4", "e-5"]
    assert [decode_payload(event) for event in events] == [
        QueryAsked(
            query_id="t-1", text="how do I pay", user="u-1", session="s-1", attributes={"name": "chat"}
        ),
        AnswerGiven(
            query_id="t-1",
            answer_id="o-1",
            text="At the desk.",
            generator="m",
            input_tokens=10,
            output_tokens=5,
            latency_ms=1500.0,
        ),
        FeedbackGiven(query_id="t-1", kind="score", value=0.9, name="accuracy"),
    ]


@pytest.mark.parametrize(
    ("logged", "text"),
    [
        (
            [{"role": "system", "content": "be kind"}, {"role": "user", "content": "how do I pay"}],
            "how do I pay",
        ),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "how"}]}]}, "how"),
        ({"kwargs": {}, "question": "how"}, "how"),
    ],
)
def test_the_question_in_what_applications_log(logged: Any, text: str) -> None:
    asked = payload_of("langfuse", {"id": "e", "type": "trace-create", "body": {"id": "t", "input": logged}})
    assert (asked.text, asked.inferred) == (text, True)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"traceId": None, "sessionId": "s"}, Reason.MISSING_FIELD, "traceId"),
        ({"traceId": ""}, Reason.MISSING_FIELD, "traceId"),
        ({"value": "high", "dataType": "NUMERIC"}, Reason.INVALID_VALUE, "value"),
        ({"value": 3, "dataType": "BOOLEAN"}, Reason.INVALID_VALUE, "value"),
        ({"value": 3, "dataType": "CATEGORICAL"}, Reason.INVALID_VALUE, "value"),
        ({"value": {}}, Reason.INVALID_VALUE, "value"),
        ({"dataType": "COLOUR"}, Reason.INVALID_VALUE, "dataType"),
        ({"name": 5}, Reason.INVALID_VALUE, "name"),
        ({"timestamp": "yesterday"}, Reason.INVALID_VALUE, "timestamp"),
    ],
)
def test_a_refusal_names_the_field_and_keeps_the_piece(
    change: dict[str, Any], reason: Reason, field: str
) -> None:
    why = refusal_of("langfuse", {**SCORE, **change})
    assert (why.reason, why.field) == (reason, field)
    entry = {"id": "e", "type": "score-create", "body": {**SCORE, **change}}
    assert refusal_of("langfuse", entry).field == f"body.{field}"
