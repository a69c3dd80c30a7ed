"""Question groups and splits: for ever, whatever comes later; equal to the plain definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learners.freeze import groups
from learners.freeze.groups import SPLITS, Vectors, lead_groups, near_earlier, split_of

CASES = settings(max_examples=40, deadline=None)


def clustered(seed: int, count: int) -> Vectors:
    """Vectors near a few directions, so that many pairs lie around any threshold."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(7, 8))[rng.integers(0, 7, count)] + rng.normal(0, 0.35, (count, 8))
    vectors: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return vectors


def plain_leaders(vectors: Vectors, threshold: float) -> list[int]:
    """The definition, one question after the other."""
    leaders: list[int] = []
    result = []
    for row in range(len(vectors)):
        best = max(leaders, key=lambda leader: (float(vectors[row] @ vectors[leader]), -leader), default=None)
        if best is not None and float(vectors[row] @ vectors[best]) >= threshold:
            result.append(best)
        else:
            leaders.append(row)
            result.append(row)
    return result


@CASES
@given(seed=st.integers(0, 10_000), count=st.integers(0, 120), threshold=st.sampled_from([0.7, 0.9, 0.99]))
def test_blocks_give_what_the_definition_gives(seed: int, count: int, threshold: float) -> None:
    vectors = clustered(seed, count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "_BLOCK", 16)
        small = lead_groups(vectors, threshold)
    assert small.tolist() == plain_leaders(vectors, threshold)
    assert lead_groups(vectors, threshold).tolist() == small.tolist()


@CASES
@given(seed=st.integers(0, 10_000), count=st.integers(1, 150), cut=st.integers(0, 150))
def test_a_longer_log_changes_no_earlier_group(seed: int, count: int, cut: int) -> None:
    vectors = clustered(seed, count)
    cut = min(cut, count)
    assert lead_groups(vectors[:cut], 0.9).tolist() == lead_groups(vectors, 0.9)[:cut].tolist()


@CASES
@given(seed=st.integers(0, 10_000), count=st.integers(1, 120))
def test_members_are_near_their_leader_and_leaders_far_from_each_other(seed: int, count: int) -> None:
    vectors = clustered(seed, count)
    leaders = lead_groups(vectors, 0.9)
    own = np.arange(count)
    assert (leaders <= own).all()
    assert (leaders[leaders] == leaders).all()
    members = own[leaders != own]
    assert (np.einsum("ij,ij->i", vectors[members], vectors[leaders[members]]) >= 0.9 - 1e-6).all()
    heads = np.unique(leaders)
    similarity = vectors[heads] @ vectors[heads].T
    np.fill_diagonal(similarity, 0)
    assert (similarity < 0.9 + 1e-6).all()


@CASES
@given(seed=st.integers(0, 10_000), count=st.integers(2, 100))
def test_leaving_out_the_later_one_leaves_no_pair(seed: int, count: int) -> None:
    vectors = clustered(seed, count)
    train = np.flatnonzero(np.random.default_rng(seed).random(count) < 0.7)
    judge = np.setdiff1d(np.arange(count), train)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(groups, "_BLOCK", 16)
        train_left = train[~near_earlier(vectors, train, judge, 0.9)]
        judge_left = judge[~near_earlier(vectors, judge, train, 0.9)]
    assert not (vectors[train_left] @ vectors[judge_left].T >= 0.9 + 1e-6).any()


def test_splits_have_their_shares_and_stay() -> None:
    texts = [f"question {n}" for n in range(4_000)]
    splits = [split_of("bank", "salt", text, (0.7, 0.15, 0.15)) for text in texts]
    for split, share in zip(SPLITS, (0.7, 0.15, 0.15), strict=True):
        assert splits.count(split) / len(texts) == pytest.approx(share, abs=0.03)
    assert splits[:5] == [split_of("bank", "salt", text, (0.7, 0.15, 0.15)) for text in texts[:5]]
    other = [split_of("shop", "salt", text, (0.7, 0.15, 0.15)) for text in texts]
    assert other != splits


def test_a_split_never_changes_once_released() -> None:
    splits = [split_of("bank", "ratchet", f"question {n}", (0.7, 0.15, 0.15)) for n in range(16)]
    assert "".join(split[0] for split in splits) == "vtttttttttjttttt"
