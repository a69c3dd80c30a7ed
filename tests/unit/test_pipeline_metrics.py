"""Ranking metrics on lists small enough to check by hand."""

from __future__ import annotations

import math

import pytest

from learners.pipeline.metrics import mean, mrr, ndcg, ndcg_condensed, recall

LABELS = {"a": 1.0, "b": 0.0, "c": 1.0, "d": 0.0}


def test_ndcg_by_hand() -> None:
    ideal = 1 + 1 / math.log2(3)
    assert ndcg(["a", "c", "b"], LABELS) == 1
    assert ndcg(["b", "a", "x", "c"], LABELS) == pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal)
    assert ndcg(["b", "a", "x", "c"], LABELS, k=2) == pytest.approx((1 / math.log2(3)) / ideal)
    assert ndcg(["b", "x"], LABELS) == 0
    assert ndcg([], LABELS) == 0


def test_ndcg_ideal_is_cut_at_k_and_grades_count() -> None:
    assert ndcg(["a"], LABELS, k=1) == 1
    assert ndcg(["q", "p"], {"p": 3.0, "q": 1.0}) == pytest.approx(
        (1 + 3 / math.log2(3)) / (3 + 1 / math.log2(3))
    )


def test_mrr_and_recall_by_hand() -> None:
    assert mrr(["b", "x", "c"], LABELS) == pytest.approx(1 / 3)
    assert mrr(["b", "x", "c"], LABELS, k=2) == 0
    assert recall(["b", "a"], LABELS) == 0.5
    assert recall(["b", "a", "c"], LABELS, k=2) == 0.5
    assert recall(["c", "a"], LABELS) == 1


@pytest.mark.parametrize("labels", [{}, {"a": 0.0}])
def test_a_query_without_relevant_documents_says_nothing(labels: dict[str, float]) -> None:
    assert math.isnan(ndcg(["a"], labels))
    assert math.isnan(mrr(["a"], labels))
    assert math.isnan(recall(["a"], labels))
    assert math.isnan(ndcg_condensed(["a"], labels).value)


def test_condensed_lists_skip_what_nobody_labelled() -> None:
    condensed = ndcg_condensed(["x", "a", "y", "b", "c"], LABELS, k=4)
    assert condensed.value == ndcg(["a", "b", "c"], LABELS, k=4)
    assert condensed.unlabelled_ratio == 0.5
    assert ndcg_condensed(["x", "y"], LABELS, k=2).value == 0
    assert ndcg_condensed([], LABELS).unlabelled_ratio == 0


def test_labels_from_deep_in_the_list_move_up_but_the_share_is_of_the_first_k() -> None:
    condensed = ndcg_condensed([*(f"x{n}" for n in range(10)), "a", "c"], LABELS)
    assert condensed.value == 1
    assert condensed.unlabelled_ratio == 1


def test_mean_is_over_what_says_something() -> None:
    assert mean([1.0, math.nan, 0.5]) == 0.75
    assert math.isnan(mean([math.nan]))
