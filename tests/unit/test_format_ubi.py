"""UBI 1.3: queries with their lists, and what each action becomes."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from schemas.codec import decode_payload
from schemas.errors import Reason
from schemas.interactions import FeedbackGiven, Hit, QueryAsked, RetrievalServed, Target
from tests.unit.format_events import events_of, payload_of, refusal_of

QUERY = {
    "application": "shop",
    "query_id": "q-1",
    "client_id": "browser-1",
    "user_query": "toner",
    "query_attributes": {"experiment": "x", "page": 1, "filters": ["a"]},
    "object_id_field": "sku",
    "timestamp": "2026-03-02T09:29:00Z",
    "query_response_id": "r-1",
    "query_response_hit_ids": ["a", "b"],
}
EVENT: dict[str, Any] = {
    "action_name": "click",
    "query_id": "q-1",
    "timestamp": "2026-03-02T09:29:30",
    "event_attributes": {
        "object": {"object_id": 17, "object_id_type": "product"},
        "position": {"ordinal": 2},
    },
}


def test_a_query_and_its_list() -> None:
    asked, served = events_of("ubi", QUERY)
    assert decode_payload(asked) == QueryAsked(
        query_id="q-1",
        text="toner",
        device="browser-1",
        attributes={
            "experiment": "x",
            "page": 1,
            "filters": '["a"]',
            "application": "shop",
            "object_id_field": "sku",
        },
    )
    assert decode_payload(served) == RetrievalServed(
        query_id="q-1", retrieval_id="r-1", hits=(Hit("a", 1), Hit("b", 2))
    )
    assert asked.time == served.time == dt.datetime(2026, 3, 2, 9, 29, tzinfo=dt.UTC)
    assert asked.id != served.id


def test_what_is_not_named_is_named_after_its_content() -> None:
    bare = {"user_query": "toner", "query_response_hit_ids": ["a"]}
    first = [decode_payload(event) for event in events_of("ubi", bare)]
    second = [decode_payload(event) for event in events_of("ubi", dict(reversed(bare.items())))]
    assert first == second
    other = payload_of("ubi", {"user_query": "ink"})
    assert other.query_id != first[0].query_id  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("click", {"kind": "click"}),
        ("add_to_cart", {"kind": "label", "value": 1.0, "name": "add_to_cart"}),
        ("purchase", {"kind": "label", "value": 1.0, "name": "purchase"}),
        ("view", {"kind": "score", "value": 1.0, "name": "view"}),
        ("thumbs_down", {"kind": "thumb", "value": -1.0, "name": "thumbs_down"}),
        ("product_hover", {"kind": "score", "value": 1.0, "name": "product_hover"}),
    ],
)
def test_what_an_action_on_a_document_becomes(action: str, said: dict[str, Any]) -> None:
    (event,) = events_of("ubi", {**EVENT, "action_name": action})
    assert decode_payload(event) == FeedbackGiven(
        query_id="q-1",
        target=Target(kind="document", document_id="17", rank=2),
        attributes={"object_id_type": "product"},
        **said,
    )
    assert event.time == dt.datetime(2026, 3, 2, 9, 29, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "change",
    [
        {"action_name": "impression"},
        {"action_name": "page_exit", "event_attributes": {"position": {}, "object": {"isUserIdle": False}}},
        {"action_name": "brand_filter", "event_attributes": None, "query_id": None},
    ],
)
def test_what_says_nothing_is_ignored(change: dict[str, Any]) -> None:
    assert events_of("ubi", {**EVENT, **change}) == []


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"query_id": None, "user_query": "toner"}, Reason.MISSING_FIELD, "query_id"),
        ({"event_attributes": {}}, Reason.MISSING_FIELD, "event_attributes.object.object_id"),
        (
            {"event_attributes": {"position": {"ordinal": 0}}},
            Reason.INVALID_VALUE,
            "event_attributes.position.ordinal",
        ),
        ({"timestamp": "noon"}, Reason.INVALID_VALUE, "timestamp"),
        ({"action_name": None}, Reason.MISSING_FIELD, "user_query"),
    ],
)
def test_a_refusal_names_the_field(change: dict[str, Any], reason: Reason, field: str) -> None:
    why = refusal_of("ubi", {**EVENT, **change})
    assert (why.reason, why.field) == (reason, field)
