"""Question groups: near-identical questions stay together, and each group belongs to one split for ever.

A text joins its nearest earlier leader at cosine ≥ the threshold, else it leads a group of its own. Groups
never merge, and a group's split is a salted hash of its leader's text. So a longer log gives earlier
questions the same groups and splits: what was a judge question stays one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from schemas.assignment import assign_arm

Split = Literal["train", "validation", "judge"]
SPLITS: Final[tuple[Split, ...]] = ("train", "validation", "judge")
Vectors = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]

#: Rows compared at once: 512 × 10,000 similarities of float32 are 20 MB.
_BLOCK: Final = 512


def lead_groups(vectors: Vectors, threshold: float) -> Indices:
    """(n,) index of each question's leader; a leader's own index for itself.

    vectors: (n, d) of length 1, in the order of (first received time, hash of the text). Of several leaders
    at the same cosine the earliest wins. The result for the first m rows does not depend on the rows after
    them.
    """
    count = len(vectors)
    leader_of = np.empty(count, np.int64)
    leaders: list[int] = []
    for start in range(0, count, _BLOCK):
        block = vectors[start : start + _BLOCK]
        known = np.array(leaders, np.int64)
        best, best_leader = np.full(len(block), -np.inf, np.float32), np.full(len(block), -1, np.int64)
        if len(known):
            similarity = block @ vectors[known].T
            nearest = similarity.argmax(axis=1)
            best, best_leader = similarity[np.arange(len(block)), nearest], known[nearest]
        inside = block @ block.T
        fresh: list[int] = []  # leaders that this block added, by place in the block
        for row in range(len(block)):
            if fresh:
                place = fresh[int(inside[row, fresh].argmax())]
                if inside[row, place] > best[row]:
                    best[row], best_leader[row] = inside[row, place], start + place
            if best[row] >= threshold:
                leader_of[start + row] = best_leader[row]
            else:
                leader_of[start + row] = start + row
                fresh.append(row)
        leaders += [start + row for row in fresh]
    return leader_of


def split_of(tenant: str, salt: str, leader_text: str, shares: Sequence[float]) -> Split:
    """The split of a group for ever; `shares` of train, validation and judge sum to 1."""
    index = assign_arm(f"{salt}/{tenant}/groups", leader_text, shares)
    # Rounding may leave the last steps of the hash outside of every share.
    return SPLITS[len(SPLITS) - 1 if index is None else index]


def near_earlier(vectors: Vectors, rows: Indices, others: Indices, threshold: float) -> npt.NDArray[np.bool_]:
    """(len(rows),) whether a row of `others` stands earlier and has cosine ≥ the threshold.

    vectors: (n, d), earliest first; rows, others: places in it. Of a train and a judge question that are too
    similar the later one is left out: then no version, trained before the later one came or after, has seen a
    judge question.
    """
    near = np.zeros(len(rows), np.bool_)
    if len(others):
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            similar = vectors[block] @ vectors[others].T >= threshold
            near[start : start + _BLOCK] = (similar & (others[None, :] < block[:, None])).any(axis=1)
    return near
