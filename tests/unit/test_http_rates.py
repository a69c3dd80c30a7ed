"""Limits of a key: the bucket by itself, and the answers of the application."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.problems import Problem
from api.http.rates import Bucket, Rates
from ingest.ports import Grant, Limits
from ingest.settings import IngestSettings
from tests.unit.http_door import ACME, ADMIN, BATCH, OTHER, Site, query


@given(
    rate=st.floats(0.1, 1000),
    asked=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 3000)), min_size=1, max_size=50),
)
def test_a_bucket_lets_no_more_through_than_its_rate(rate: float, asked: list[tuple[float, int]]) -> None:
    bucket, now_s, passed, last = Bucket("events", rate, 0.0), 0.0, 0, 0
    for pause_s, cost in asked:
        now_s += pause_s
        wait_s = bucket.take(cost, now_s)
        if wait_s == 0:
            passed, last = passed + cost, cost
        else:
            assert bucket.take(cost, now_s + wait_s * 1.001 + 1e-6) == 0
            return
    # Within the time: what came, what the bucket held, and at most the last one beyond.
    assert passed <= rate * now_s + bucket.size + last + 1e-6


def test_what_is_larger_than_a_second_passes_once_and_is_paid_off() -> None:
    bucket = Bucket("events", 100, 0.0)
    assert bucket.take(1000, 0.0) == 0
    assert bucket.take(1, 0.0) == pytest.approx(9.01)
    assert bucket.take(1, 9.02) == 0


async def test_requests_beyond_the_limit_are_429_with_the_headers() -> None:
    site = Site(IngestSettings(max_requests_per_s=2))
    first = await site.send("POST", "/v1/events", query(1))
    assert (first.status_code, first.headers["ratelimit-limit"], first.headers["ratelimit-remaining"]) == (
        202,
        "2",
        "1",
    )
    assert (await site.send("POST", "/v1/events", query(2))).status_code == 202
    third = await site.send("POST", "/v1/events", query(3))
    assert third.status_code == 429
    assert third.json()["type"] == "urn:ratchet:problem:too-many-requests"
    assert "2 requests a second" in third.json()["detail"]
    assert int(third.headers["retry-after"]) == 1
    assert (third.headers["ratelimit-remaining"], third.headers["ratelimit-reset"]) == ("0", "1")
    assert len(site.events()) == 2
    # Another key has a bucket of its own; what needs no key has none.
    assert (await site.send("POST", "/v1/events", query(3), OTHER)).status_code == 202
    assert "ratelimit-limit" not in (await site.send("GET", "/healthz", headers={})).headers


async def test_events_beyond_the_limit_are_429_and_none_of_them_is_taken() -> None:
    site = Site(IngestSettings(max_events_per_s=3))
    assert (await site.send("POST", "/v1/events", [query(n) for n in range(3)], BATCH)).status_code == 202
    answer = await site.send("POST", "/v1/events", [query(n) for n in range(3)], BATCH)
    assert answer.status_code == 429
    assert "3 events a second" in answer.json()["detail"]
    assert len(site.events()) == 3
    assert (await site.send("POST", "/v1/queries", {"text": "how"})).status_code == 429


async def test_a_key_may_be_issued_with_limits_of_its_own() -> None:
    site = Site()
    tight, free = [
        {
            "x-api-key": (await site.send("POST", "/v1/keys", {"scopes": ["send"], **limits}, ADMIN)).json()[
                "key"
            ]
        }
        for limits in ({"max_requests_per_s": 1}, {})
    ]
    assert [(await site.send("POST", "/v1/events", query(), tight)).status_code for _ in range(2)] == [
        202,
        429,
    ]
    assert [(await site.send("POST", "/v1/events", query(), free)).status_code for _ in range(2)] == [
        202,
        202,
    ]


async def test_without_limits_nothing_is_said_of_them() -> None:
    answer = await Site().send("POST", "/v1/events", query(), ACME)
    assert not [name for name in answer.headers if name.startswith("ratelimit")]


def test_a_keys_own_limit_goes_before_that_of_the_settings() -> None:
    rates = Rates(max_requests_per_s=1, max_events_per_s=1, clock_s=lambda: 0.0)
    free = Grant("acme", frozenset(), "k-1", Limits(0.0, 0.0))
    half = Grant("acme", frozenset(), "k-2", Limits(None, 1000))
    plain = Grant("acme", frozenset(), "k-3")
    rates.charge_events(free, 10**6)
    rates.charge_events(half, 1000)
    rates.charge_events(plain, 1)
    for grant, number in ((half, 1), (plain, 1)):
        with pytest.raises(Problem, match="events a second") as refused:
            rates.charge_events(grant, number)
        assert refused.value.status == 429
