"""The port `SearchIndex`: documents in, immutable snapshots out, and what a hit is.

Two implementations pass one contract suite: `exact_index.ExactIndex` (numpy and tantivy) serves,
`reference_index.ReferenceIndex` (plain Python) says what the answers must be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from learners.pipeline.fusion import Candidates
from schemas.versions import FusionSettings

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class IndexedDocument:
    """A document as an index takes it.

    `text`: what the lexical arm reads, the template already filled in. `vector`: [dimension] float32.
    `text_hash`: `schemas.documents.text_hash` of the stored document; comes back with each hit.
    """

    document_id: str
    text: str
    text_hash: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class Hit:
    """A document at a rank (1 is the top) of one list.

    `score`: what the list is sorted by. `dense_score`: the cosine, None if the dense arm has no weight.
    `bm25_score`: None if the lexical arm has no weight or did not list the document.
    """

    rank: int
    document_id: str
    text_hash: str
    score: float
    dense_score: float | None
    bm25_score: float | None


class IndexSnapshot(Protocol):
    """One state of an index. Never changes; may be read from any thread, also while the next one is built."""

    @property
    def document_ids(self) -> tuple[str, ...]:
        """Ascending; the positions in `Candidates` point into it."""
        ...

    @property
    def text_hashes(self) -> tuple[str, ...]:
        """Parallel to `document_ids`."""
        ...

    def candidates(self, text: str | None, vector: Vector | None, depth: int) -> Candidates:
        """What both arms list for one query; `text` None or `vector` None leaves that arm out.

        The dense score of every candidate is exact. Order within an arm: score, then document id; scores
        closer than 1e-6 may tie.
        """
        ...

    def search(
        self, text: str, vector: Vector | None, k: int, *, fusion: FusionSettings, depth: int
    ) -> tuple[Hit, ...]:
        """The best `k` documents; fewer if the arms list fewer. `search(k)` is a prefix of `search(k + 1)`.

        Order: score, then document id. A snapshot is a function of the set of its documents: how they came in
        changes no score. Raises ValueError if `k` is not in 1 … `depth`, if a weighted dense arm gets no
        vector, or if the vector's dimension is not the index's.
        """
        ...


class SearchIndex(Protocol):
    """Holds the latest snapshot. Updates exclude each other; a search never sees half of one."""

    def snapshot(self) -> IndexSnapshot:
        """The latest complete state."""
        ...

    def update(self, put: Iterable[IndexedDocument] = (), remove: Collection[str] = ()) -> IndexSnapshot:
        """Build and publish the next snapshot: `remove` first, then `put`, which replaces by id.

        Of two puts of one id the last wins; unknown ids in `remove` are ignored. Raises ValueError, and
        changes nothing, if a vector has another dimension or holds nan. Costs time in proportion to the
        whole index: put many documents at once.
        """
        ...


def make_hits(
    snapshot: IndexSnapshot,
    candidates: Candidates,
    order: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float64],
    fusion: FusionSettings,
) -> tuple[Hit, ...]:
    """Hits from what `fusion.fuse` returned."""
    ids, hashes = snapshot.document_ids, snapshot.text_hashes
    return tuple(
        Hit(
            rank=rank,
            document_id=ids[candidates.positions[index]],
            text_hash=hashes[candidates.positions[index]],
            score=float(score),
            dense_score=float(candidates.dense[index]) if fusion.dense_weight > 0 else None,
            bm25_score=float(candidates.bm25[index])
            if fusion.dense_weight < 1 and candidates.bm25_rank[index] > 0
            else None,
        )
        for rank, (index, score) in enumerate(zip(order, scores, strict=True), start=1)
    )


def check_query(k: int, depth: int, vector: Vector | None, fusion: FusionSettings) -> None:
    """Raise ValueError if a search cannot be answered as asked."""
    if not 1 <= k <= depth:
        raise ValueError(
            f"expected 1 <= k <= depth {depth}, got k {k}: raise the version's depth for longer lists"
        )
    if fusion.dense_weight > 0 and vector is None:
        raise ValueError(
            f"dense weight is {fusion.dense_weight}, but no query vector came: encode the query first"
        )
