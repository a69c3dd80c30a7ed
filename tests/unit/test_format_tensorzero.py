"""TensorZero: which metric becomes what, and of whom."""

from __future__ import annotations

from typing import Any

import pytest

from ingest.formats.tensorzero import is_dry_run
from schemas.errors import Reason
from schemas.interactions import FeedbackGiven, Target
from schemas.waiting import FeedbackReferred
from tests.unit.format_events import events_of, payload_of, refusal_of


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("thumbs_up", True, {"kind": "thumb", "value": 1.0, "name": "thumbs_up"}),
        ("thumbs_down", True, {"kind": "thumb", "value": -1.0, "name": "thumbs_down"}),
        ("task_success", False, {"kind": "score", "value": 0.0, "name": "task_success"}),
        ("rating", 0.75, {"kind": "score", "value": 0.75, "name": "rating"}),
        ("comment", "clear", {"kind": "comment", "text": "clear"}),
        ("demonstration", "By card.", {"kind": "correction", "text": "By card."}),
        ("demonstration", [{"type": "text", "text": "By card."}], {"kind": "correction", "text": "By card."}),
        ("demonstration", {"total": 3}, {"kind": "correction", "text": '{"total":3}'}),
    ],
)
def test_what_a_call_becomes(name: str, value: Any, said: dict[str, Any]) -> None:
    call = {"metric_name": name, "value": value, "inference_id": None, "tags": {"page": "2"}}
    attributes: Any = {"tag.page": "2"}
    assert payload_of("tensorzero", {**call, "episode_id": "ep-1"}) == FeedbackGiven(
        query_id="ep-1", attributes=attributes, **said
    )
    assert payload_of("tensorzero", {**call, "inference_id": "in-1"}) == FeedbackReferred(
        reference="answer:in-1",
        target=Target(kind="answer", answer_id="in-1"),
        attributes=attributes,
        **said,
    )


def test_what_an_evaluator_says_is_no_persons_word() -> None:
    tags = {"tensorzero::evaluation_name": "haiku"}
    call = {"metric_name": "rating", "value": 1, "episode_id": "ep-1", "tags": tags}
    assert payload_of("tensorzero", call).rater == "llm"


def test_the_id_is_that_of_what_is_said() -> None:
    call = {"metric_name": "rating", "value": 1, "episode_id": "ep-1"}
    handled = {**call, "dryrun": False, "internal": True, "inference_id": None}
    first, second, other = events_of("tensorzero", call, handled, {**call, "value": 0})
    assert first.identity == second.identity != other.identity


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"episode_id": None}, "inference_id"),
        ({"inference_id": "in-1"}, "inference_id"),
        ({"value": "good"}, "value"),
        ({"value": None}, "value"),
        ({"metric_name": "comment", "value": " "}, "value"),
        ({"metric_name": "demonstration", "value": []}, "value"),
        ({"tags": {"a": 1}}, "tags.*"),
        ({"metric_name": ""}, "metric_name"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, Any], field: str) -> None:
    why = refusal_of("tensorzero", {"metric_name": "rating", "value": 1, "episode_id": "ep-1", **change})
    assert why.field == field
    assert why.reason in (Reason.MISSING_FIELD, Reason.INVALID_VALUE)


def test_a_dry_run_is_asked_for() -> None:
    assert is_dry_run(b'{"dryrun": true}')
    for body in (b'{"dryrun": null}', b"{}", b"[", b'{"dryrun": 1}'):
        assert not is_dry_run(body)
