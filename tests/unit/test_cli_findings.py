"""What the doctor says of which figures."""

from __future__ import annotations

import msgspec
import pytest

from api.cli.examination import EventCount, Figures, QueryShares, Rejections, Unknown, Waiting
from api.cli.findings import age, find, training_needs
from learners.freeze.settings import FreezeSettings

RULES = FreezeSettings()
SHARES = QueryShares(
    total=1_000,
    with_list=1_000,
    with_hits=1_000,
    with_ranks=1_000,
    with_scores=1_000,
    with_propensities=1_000,
    with_text_hashes=1_000,
    with_versions=1_000,
    with_units=1_000,
    with_feedback=400,
    failed=0,
)
HEALTHY = Figures(
    tenant="acme",
    documents=50,
    events=(EventCount("ratchet.query.asked.v1", "app", 1_000, "2026-01-01 00:00:00", 0),),
    queries=SHARES,
    waiting=Waiting(feedback=0, queries=0, oldest_age_s=0, examples=()),
    unknown=Unknown(
        hit_documents=0,
        hit_examples=(),
        feedback_documents=0,
        feedback_examples=(),
        not_shown=0,
        not_shown_examples=(),
    ),
    rejected=(),
    pairs=900,
    positive_pairs=600,
    positive_questions=600,
    champion="1.0.0",
    last_abandoned="",
    lag_events=0,
)


def changed(**changes: object) -> Figures:
    return msgspec.structs.replace(HEALTHY, **changes)


def shares(**changes: int) -> Figures:
    return changed(queries=msgspec.structs.replace(SHARES, **changes))


def unknown(**changes: object) -> Figures:
    return changed(unknown=msgspec.structs.replace(HEALTHY.unknown, **changes))


def test_nothing_is_missing() -> None:
    (finding,) = find(HEALTHY, RULES)
    assert finding.level == "good"


@pytest.mark.parametrize(
    ("figures", "level", "what", "todo"),
    [
        (shares(total=0), "problem", "no query has been reported", "POST /v1/queries"),
        (shares(with_list=400), "problem", "60% of the queries have no result list", "/v1/retrievals"),
        (shares(with_list=999), "hint", "1 of 1,000 of the queries have no result list", "/v1/retrievals"),
        (
            shares(with_hits=500, with_propensities=500),
            "hint",
            "50% of the queries found nothing",
            "documents",
        ),
        (shares(with_propensities=250), "hint", "75% of the lists have no propensities", "propensity"),
        (shares(with_units=100), "problem", "90% of the queries name no user", "`user`"),
        (shares(with_feedback=0), "problem", "no query has feedback", "/v1/feedback"),
        (changed(documents=0), "problem", "there are no documents", "documents load"),
        (
            unknown(hit_documents=3, hit_examples=("d1", "d2")),
            "problem",
            "3 documents were shown that do not stand (such as d1, d2)",
            "under the ids",
        ),
        (
            unknown(not_shown=100, not_shown_examples=("q1",)),
            "problem",
            "100 pieces of feedback name a document that their query was not shown",
            "same document ids",
        ),
        (
            unknown(feedback_documents=1, feedback_examples=("d",)),
            "hint",
            "1 documents with feedback",
            "load them",
        ),
        (
            changed(waiting=Waiting(feedback=7, queries=5, oldest_age_s=7_300, examples=("q7",))),
            "problem",
            "7 for 5 that did not come, the oldest for 2 hours (such as q7)",
            "exactly this query_id",
        ),
        (
            changed(waiting=Waiting(feedback=1, queries=1, oldest_age_s=5, examples=("q7",))),
            "hint",
            "the oldest for 5 seconds",
            "query_id",
        ),
        (
            changed(
                rejected=(
                    Rejections(
                        reason="missing_field", entries=4, field="data.text", message="m", example="abc"
                    ),
                )
            ),
            "problem",
            "4 rejected as missing_field at data.text: m",
            "ratchet rejected show abc",
        ),
        (changed(lag_events=12), "hint", "12 events are acknowledged", "streams"),
        (changed(lag_events=None), "problem", "Kafka does not answer", "ratchet up"),
        (changed(champion=""), "hint", "no version serves yet", "ratchet up"),
        (changed(positive_questions=10), "hint", "for training: 7 of 200", "feedback"),
        (changed(last_abandoned="too little"), "hint", "without a version: too little", "story"),
        (
            changed(events=(EventCount("ratchet.query.asked.v1", "app", 10, "2026-01-01", 3),)),
            "hint",
            "3 events have a time",
            "clock",
        ),
    ],
)
def test_a_finding_says_what_and_what_to_do(figures: Figures, level: str, what: str, todo: str) -> None:
    found = [finding for finding in find(figures, RULES) if what in finding.what]
    assert len(found) == 1, find(figures, RULES)
    assert found[0].level == level
    assert todo in found[0].todo


def test_problems_come_first() -> None:
    levels = [
        finding.level for finding in find(shares(with_units=0, with_propensities=0, with_list=0), RULES)
    ]
    assert levels == sorted(levels, key=lambda level: level == "hint")


def test_the_needs_follow_the_settings() -> None:
    needs = training_needs(changed(positive_questions=1_000), RULES)
    assert [(need.have, need.needed) for need in needs] == [(700, 200), (150, 30), (150, 50)]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 seconds"), (119, "119 seconds"), (120, "2 minutes"), (172_800, "2 days")]
)
def test_age(seconds: int, text: str) -> None:
    assert age(seconds) == text
