"""The label model: clicks over expected clicks, with the help of similar questions."""

from __future__ import annotations

import numpy as np
import pytest

from learners.freeze.labels import grades, train_labels
from learners.freeze.questions import DEEPEST_RANK, Judgement, Look, Question, gather_questions
from learners.freeze.relevance import (
    Estimate,
    Floats,
    agreement,
    estimate_relevance,
    expected_clicks,
    nearest,
)
from learners.freeze.settings import FreezeSettings
from tests.unit.feedback_log import CORPUS, START, encode, feedback_log

SETTINGS = FreezeSettings()
FLAT: Floats = np.full(DEEPEST_RANK, 0.5)


def question(
    text: str, looks: list[Look] | None = None, judgements: list[Judgement] | None = None
) -> Question:
    return Question(text, text, START, 1, looks or [], judgements or [])


def of_log(length: int, *, shuffled: bool = False) -> list[Question]:
    documents = {current.document_id: current for current in CORPUS}
    return gather_questions(feedback_log(length, shuffled=shuffled), documents)[0]


def test_expected_clicks_fall_with_the_rank_as_the_log_shows() -> None:
    expected = expected_clicks(of_log(2_000))
    assert (np.diff(expected) <= 0).all()
    assert (expected > 0).all()
    # Every rank holds a wanted document equally often; only the looking falls, as 1 / sqrt(rank).
    assert expected[:8] / expected[0] == pytest.approx(1 / np.sqrt(np.arange(1, 9)), abs=0.1)


def test_without_clicks_the_curve_is_the_discount() -> None:
    expected = expected_clicks([question("topic 1", [Look("a", 1, 0.0)])])
    assert expected[:3] == pytest.approx([0.5, 0.5 / np.log2(3), 0.25])


def test_lift_is_clicks_over_expected_clicks_drawn_to_the_prior() -> None:
    settings = FreezeSettings(prior_clicks=2.0, prior_lift=0.5, judgement_clicks=2.0)
    asked = question(
        "topic 1",
        [Look("a", 1, 1.0), Look("a", 1, 1.0), Look("b", 2, 0.0), Look("c", 1, 1.0)],
        [Judgement("c", 0, 0.5), Judgement("d", 1, 1.0)],
    )
    (estimates,) = estimate_relevance([asked], encode([asked.text]), FLAT, settings)
    assert estimates["a"] == Estimate(1.0, 1.0, 0.5, 1.0, 2.0)  # (2 + 1) / (1 + 2)
    assert estimates["b"] == Estimate(0.4, 0.5, 0.5, 0.5, 0.0)  # (0 + 1) / (0.5 + 2)
    assert estimates["c"].lift == pytest.approx(1 / 3, abs=1e-6)  # judged: the click does not count
    assert estimates["d"].lift == pytest.approx((4 + 1) / (2 + 2))


def test_similar_questions_share_evidence_and_far_ones_do_not() -> None:
    asked = [
        question("topic 1 with a click", [Look("a", 1, 1.0)]),
        question("topic 1 without", [Look("b", 1, 0.0)]),
        question("topic 2 elsewhere", [Look("c", 1, 1.0)]),
    ]
    vectors = encode([each.text for each in asked])
    cosine = float(vectors[0] @ vectors[1])
    assert cosine > 0.5 > float(vectors[1] @ vectors[2])
    estimates = estimate_relevance(asked, vectors, FLAT, SETTINGS)
    assert set(estimates[1]) == {"a", "b"}
    assert estimates[1]["a"].expected == pytest.approx(0.5 * cosine**4, abs=1e-5)
    assert (estimates[1]["a"].own, estimates[1]["a"].used) == (0.0, 0.0)
    assert estimates[0]["a"].others == pytest.approx(SETTINGS.prior_lift)


def test_nearest_is_the_plain_definition() -> None:
    vectors = encode([f"topic {n % 5} number {n}" for n in range(60)])
    settings = FreezeSettings(neighbours=7)
    places, weights = nearest(vectors, settings)
    similarity = vectors @ vectors.T
    for row in range(60):
        others = [other for other in np.argsort(-similarity[row], kind="stable") if other != row][:7]
        assert places[row].tolist() == [row, *others]
        near = similarity[row, others]
        assert weights[row, 1:] == pytest.approx(np.where(near >= 0.5, near**4, 0), abs=1e-5)
    assert weights[:, 0] == pytest.approx(1)


def test_labels_are_right_more_often_and_reach_further_than_clicks() -> None:
    asked = of_log(1_500)
    estimates = estimate_relevance(
        asked, encode([each.text for each in asked]), expected_clicks(asked), SETTINGS
    )
    clicked = [(each.text.split()[1], look.document_id) for each in asked for look in each.looks if look.used]
    labelled, refused, graded = [], [], []
    for each, estimate in zip(asked, estimates, strict=True):
        topic = each.text.split()[1]
        positives, masked, negatives = train_labels(estimate, SETTINGS)
        assert set(positives) <= set(masked)
        assert not set(negatives) & set(masked)
        assert {look.document_id for look in each.looks if look.used} <= set(masked)
        labelled += [(topic, document_id) for document_id in positives]
        refused += [(topic, document_id) for document_id in negatives]
        labels = grades(estimate, SETTINGS)
        graded += [(grade, document_id.startswith(f"d{topic}-")) for document_id, grade in labels.items()]

    def right(pairs: list[tuple[str, str]]) -> float:
        return float(np.mean([document_id.startswith(f"d{topic}-") for topic, document_id in pairs]))

    assert right(labelled) > right(clicked)
    assert len(labelled) > 1.5 * len(clicked)
    assert right(refused) < 0.02
    assert np.mean([g for g, relevant in graded if relevant]) > 5 * np.mean(
        [g for g, relevant in graded if not relevant]
    )


def test_feedback_agrees_with_itself_unless_it_is_shuffled() -> None:
    for shuffled in (False, True):
        asked = of_log(900, shuffled=shuffled)
        expected = expected_clicks(asked)
        estimates = estimate_relevance(asked, encode([each.text for each in asked]), expected, SETTINGS)
        z = agreement(asked, estimates, expected)
        assert abs(z) < 3 if shuffled else z > 10
    assert agreement([], [], expected) == 0.0
