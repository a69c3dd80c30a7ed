"""Exploration: now and then one slot shows a document from further down, and the log says how likely it was.

Without it a document that the pipeline ranks low is never shown, never clicked, never learned from.

Policy: with chance `rate` one of the `shown` slots, drawn evenly, gets one of the pool's documents (the ranks
`shown` + 1 … `pool_end`), drawn evenly; the document that stood there is not shown. So, with n in the pool:

    P(document of rank r <= shown stands at r)      = 1 - rate / shown
    P(document of the pool stands at a given slot)  = rate / (shown * n)

and a list without a pool is left alone, with propensity 1.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from learners.pipeline.index import Hit

DEFAULT_RATE = 0.05
DEFAULT_SHOWN = 10
DEFAULT_POOL_END = 50


@dataclass(frozen=True, slots=True)
class ShownHit:
    """What a user sees at `rank`. `hit.rank` is the pipeline's own rank; they differ where `explored`.

    `propensity`: the chance, under the policy, that this document stood at this rank.
    """

    rank: int
    hit: Hit
    propensity: float

    @property
    def explored(self) -> bool:
        return self.rank != self.hit.rank


@dataclass(frozen=True, slots=True)
class ShownList:
    """The list as it is shown; `explored` says whether a slot was swapped in it."""

    hits: tuple[ShownHit, ...]

    @property
    def explored(self) -> bool:
        return any(shown.explored for shown in self.hits)


def explore(
    ranked: Sequence[Hit],
    rng: random.Random,
    *,
    rate: float = DEFAULT_RATE,
    shown: int = DEFAULT_SHOWN,
    pool_end: int = DEFAULT_POOL_END,
) -> ShownList:
    """The first `shown` of `ranked`, with the policy of the module docstring applied once.

    `ranked`: hits by rank 1, 2, …; give at least `pool_end` of them if there are as many. `rng` decides
    all; seed it from ids (`random.Random(f"{salt}/{tenant}/{query_id}")`), so that a repeated request
    sees the same list. Raises ValueError if `rate` is no chance, `shown` < 1, `pool_end` < `shown`, or
    the ranks are not 1, 2, ….
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is the share of lists that explore, in [0, 1]; got {rate}")
    if not 1 <= shown <= pool_end:
        raise ValueError(f"expected 1 <= shown <= pool_end, got shown {shown}, pool_end {pool_end}")
    if any(hit.rank != rank for rank, hit in enumerate(ranked, start=1)):
        raise ValueError(f"expected hits by rank 1, 2, …; got ranks {[hit.rank for hit in ranked][:20]}")
    top, pool = ranked[:shown], ranked[shown:pool_end]
    if not pool or rate == 0:
        return ShownList(tuple(ShownHit(hit.rank, hit, 1.0) for hit in top))
    keeps = 1 - rate / len(top)
    hits = [ShownHit(hit.rank, hit, keeps) for hit in top]
    if rng.random() < rate:
        slot = rng.randrange(len(top))
        newcomer = pool[rng.randrange(len(pool))]
        hits[slot] = ShownHit(slot + 1, newcomer, rate / (len(top) * len(pool)))
    return ShownList(tuple(hits))
