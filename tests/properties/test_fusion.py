"""Fusion, its tuning and exploration, against plain definitions and exact enumeration."""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.pipeline.explore import explore
from learners.pipeline.fusion import Candidates, fuse, select_candidates, top_positions
from learners.pipeline.index import Hit
from learners.pipeline.metrics import ndcg
from learners.pipeline.tuning import DEFAULT_GRID, tune_fusion
from schemas.versions import FusionSettings

#: Few distinct values, so that ties are common.
COSINES = st.integers(-4, 4).map(lambda step: step / 4)
BM25 = st.integers(0, 5).map(lambda step: step * 1.5)
SETTINGS = st.builds(
    FusionSettings,
    method=st.sampled_from(["convex", "rrf"]),
    dense_weight=st.sampled_from([0.0, 0.2, 0.5, 0.85, 1.0]),
    rrf_k=st.sampled_from([1.0, 60.0]),
)


@st.composite
def scores(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    size = draw(st.integers(1, 12))
    return (
        draw(st.lists(COSINES, min_size=size, max_size=size)),
        draw(st.lists(BM25, min_size=size, max_size=size)),
    )


def _candidates(dense: list[float], bm25: list[float], depth: int) -> Candidates:
    listed = [i for i, score in enumerate(bm25) if score > 0]
    return select_candidates(
        np.array(dense), np.array(listed, np.int64), np.array([bm25[i] for i in listed]), depth
    )


def _plain_ranking(dense: list[float], bm25: list[float], fusion: FusionSettings, depth: int) -> list[int]:
    """The definitions of `fusion`, document by document."""
    w = fusion.dense_weight
    dense_arm = sorted(range(len(dense)), key=lambda i: (-dense[i], i))[:depth] if w > 0 else []
    lexical = (i for i, score in enumerate(bm25) if score > 0)
    bm25_arm = sorted(lexical, key=lambda i: (-bm25[i], i))[:depth] if w < 1 else []
    top = max((bm25[i] for i in bm25_arm), default=1.0)
    score = {}
    for i in {*dense_arm, *bm25_arm}:
        if w in (0, 1):
            score[i] = dense[i] if w else bm25[i]
        elif fusion.method == "convex":
            score[i] = w * dense[i] + (1 - w) * (bm25[i] / top if i in bm25_arm else 0.0)
        else:
            score[i] = sum(
                weight / (fusion.rrf_k + arm.index(i) + 1)
                for weight, arm in ((w, dense_arm), (1 - w, bm25_arm))
                if i in arm
            )
    return sorted(score, key=lambda i: (-round(score[i], 12), i))


@given(scores(), SETTINGS, st.integers(1, 13))
def test_fuse_is_its_definition(
    arms: tuple[list[float], list[float]], fusion: FusionSettings, depth: int
) -> None:
    candidates = _candidates(*arms, depth)
    order, fused = fuse(candidates, fusion, depth)
    assert candidates.positions[order].tolist() == _plain_ranking(*arms, fusion, depth)[:depth]
    assert fused.tolist() == sorted(fused.tolist(), reverse=True)


@given(scores(), SETTINGS, st.integers(0, 11), st.integers(1, 12))
def test_a_better_cosine_never_lowers_a_document(
    arms: tuple[list[float], list[float]], fusion: FusionSettings, which: int, depth: int
) -> None:
    dense, bm25 = arms
    which %= len(dense)
    better = [score + 0.5 if i == which else score for i, score in enumerate(dense)]

    def place(cosines: list[float]) -> float:
        candidates = _candidates(cosines, bm25, depth)
        ranked = candidates.positions[fuse(candidates, fusion, len(dense))[0]].tolist()
        return ranked.index(which) if which in ranked else math.inf

    assert place(better) <= place(dense)


@given(st.lists(COSINES, min_size=1, max_size=30), st.integers(1, 35))
def test_top_positions_cuts_a_tie_by_position(values: list[float], depth: int) -> None:
    expected = sorted(range(len(values)), key=lambda i: (-values[i], i))[:depth]
    assert top_positions(np.array(values), depth).tolist() == expected


@given(st.lists(scores(), min_size=1, max_size=4), st.data())
def test_tuning_takes_the_best_of_the_grid(
    questions: list[tuple[list[float], list[float]]], data: st.DataObject
) -> None:
    size = min(len(dense) for dense, _ in questions)
    dense = np.array([d[:size] for d, _ in questions])
    bm25 = np.array([b[:size] for _, b in questions])
    relevance = np.array(
        [
            data.draw(st.lists(st.sampled_from([0.0, 1.0, math.nan]), min_size=size, max_size=size))
            for _ in dense
        ]
    )
    relevance[0, 0] = 1.0
    tuned = tune_fusion(dense, bm25, relevance, depth=8, k=3)

    def plain(fusion: FusionSettings) -> float:
        values = []
        for d, b, row in zip(dense.tolist(), bm25.tolist(), relevance.tolist(), strict=True):
            labels = {str(i): label for i, label in enumerate(row) if not math.isnan(label)}
            ranked = [str(i) for i in _plain_ranking(d, b, fusion, 8)]
            if any(labels.values()):
                values.append(ndcg(ranked, labels, 3))
        return sum(values) / len(values)

    expected = [plain(fusion) for fusion in DEFAULT_GRID]
    assert [score for _, score in tuned.scores] == pytest.approx(expected)
    assert tuned.score == max(score for _, score in tuned.scores)
    assert dict(tuned.scores)[tuned.settings] == tuned.score


def test_tuning_finds_the_arm_that_knows() -> None:
    rng = np.random.default_rng(3)
    relevance = np.zeros((40, 30))
    relevance[np.arange(40), rng.integers(0, 30, 40)] = 1
    noise = rng.normal(size=(40, 30))
    knows = np.clip(relevance + 0.2 * noise, -1, 1)
    blind = np.clip(0.3 * rng.normal(size=(40, 30)), -1, 1)
    dense_knows = tune_fusion(knows, np.abs(blind), relevance)
    bm25_knows = tune_fusion(blind, np.clip(knows, 0, None), relevance)
    assert dense_knows.settings.dense_weight > 0.5 > bm25_knows.settings.dense_weight
    assert min(dense_knows.score, bm25_knows.score) > 0.95
    assert dense_knows.queries == 40


def test_tuning_without_a_relevant_document_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing to tune on: 0 of 2"):
        tune_fusion(np.zeros((2, 3)), np.zeros((2, 3)), np.full((2, 3), np.nan))
    with pytest.raises(ValueError, match="one shape"):
        tune_fusion(np.zeros((2, 3)), np.zeros((2, 4)), np.zeros((2, 3)))


class _Scripted(random.Random):
    """Answers what it is told, so that every branch of the policy can be walked once."""

    def __init__(self, explores: bool, slot: int, newcomer: int) -> None:
        super().__init__(0)
        self._explores = explores
        self._draws = iter((slot, newcomer))

    def random(self) -> float:
        return 0.0 if self._explores else 1.0 - 2**-53

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        drawn = next(self._draws)
        assert 0 <= drawn < start
        return drawn


def _ranked(count: int) -> list[Hit]:
    return [Hit(rank, f"d{rank}", "", 1 / rank, None, None) for rank in range(1, count + 1)]


@given(st.integers(0, 14), st.integers(1, 6), st.integers(0, 6), st.floats(0.001, 0.999, exclude_max=True))
def test_logged_propensities_are_the_chances_of_the_policy(
    count: int, shown: int, extra: int, rate: float
) -> None:
    ranked = _ranked(count)
    slots = min(shown, count)
    pool = len(ranked[shown : shown + extra])
    branches = [(1 - rate, _Scripted(False, 0, 0))]
    if pool:
        branches += [
            (rate / (slots * pool), _Scripted(True, slot, newcomer))
            for slot, newcomer in itertools.product(range(slots), range(pool))
        ]
    else:
        branches = [(1.0, _Scripted(True, 0, 0))]
    chances: dict[tuple[str, int], float] = defaultdict(float)
    logged: dict[tuple[str, int], float] = {}
    for chance, rng in branches:
        outcome = explore(ranked, rng, rate=rate, shown=shown, pool_end=shown + extra)
        assert [hit.rank for hit in outcome.hits] == list(range(1, slots + 1))
        for hit in outcome.hits:
            chances[hit.hit.document_id, hit.rank] += chance
            assert logged.setdefault((hit.hit.document_id, hit.rank), hit.propensity) == hit.propensity
    assert logged == pytest.approx(dict(chances))


def test_the_default_policy_in_numbers() -> None:
    ranked, rng = _ranked(100), random.Random("salt/tenant/query")
    lists = [explore(ranked, rng) for _ in range(20_000)]
    explored = [shown for shown in lists if shown.explored]
    assert len(explored) / len(lists) == pytest.approx(0.05, abs=0.006)
    for shown in explored:
        [swapped] = [hit for hit in shown.hits if hit.explored]
        assert 11 <= swapped.hit.rank <= 50
        assert swapped.propensity == pytest.approx(0.05 / 10 / 40)
    # Inverse-propensity weights recover what showing each of the first ten at its own rank is worth.
    weighted = sum(1 / hit.propensity for shown in lists for hit in shown.hits if not hit.explored)
    assert weighted / len(lists) == pytest.approx(10, abs=0.02)


def test_the_same_seed_gives_the_same_list() -> None:
    ranked = _ranked(60)
    assert explore(ranked, random.Random("a/b"), rate=0.5) == explore(ranked, random.Random("a/b"), rate=0.5)


def test_no_rate_or_no_pool_leaves_the_list_alone() -> None:
    for shown in (
        explore(_ranked(50), random.Random(1), rate=0),
        explore(_ranked(7), random.Random(1), rate=1),
    ):
        assert not shown.explored
        assert {hit.propensity for hit in shown.hits} == {1.0}


@pytest.mark.parametrize(
    ("options", "said"), [({"rate": 1.5}, "rate"), ({"shown": 0}, "shown"), ({"pool_end": 9}, "pool_end")]
)
def test_a_policy_that_makes_no_sense_is_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        explore(_ranked(20), random.Random(1), **options)  # type: ignore[arg-type]


def test_ranks_must_be_the_pipelines_own() -> None:
    with pytest.raises(ValueError, match="ranks"):
        explore(_ranked(20)[1:], random.Random(1))
