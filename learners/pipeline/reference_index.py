"""The search contract in plain Python, one document at a time: slow, and what the fast index must equal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from learners.pipeline.exact_index import check_vectors
from learners.pipeline.fusion import SCORE_DIGITS, Candidates
from learners.pipeline.index import Hit, IndexedDocument, IndexSnapshot, Vector, check_query
from schemas.versions import Bm25Settings, FusionSettings

Analyze = Callable[[str], list[str]]


@dataclass(frozen=True, eq=False)
class ReferenceSnapshot:
    """A state of `ReferenceIndex`; `documents` in order of id."""

    documents: tuple[IndexedDocument, ...]
    dimension: int
    settings: Bm25Settings
    analyze: Analyze

    @property
    def document_ids(self) -> tuple[str, ...]:
        return tuple(document.document_id for document in self.documents)

    @property
    def text_hashes(self) -> tuple[str, ...]:
        return tuple(document.text_hash for document in self.documents)

    def bm25_scores(self, text: str) -> list[float]:
        """BM25 of every document, with idf = ln(1 + (N - n + .5) / (n + .5)).

        Robertson, Zaragoza, "The Probabilistic Relevance Framework", 2009, eq. 3.15, with the + 1 of
        Lucene, which keeps it positive.
        """
        bags = [Counter(self.analyze(document.text)) for document in self.documents]
        mean_length = sum(bag.total() for bag in bags) / len(bags) if bags else 0.0
        scores = [0.0] * len(bags)
        for token in dict.fromkeys(self.analyze(text)):
            holders = sum(token in bag for bag in bags)
            idf = math.log(1 + (len(bags) - holders + 0.5) / (holders + 0.5))
            for i, bag in enumerate(bags):
                length = (
                    1 - self.settings.b + self.settings.b * bag.total() / mean_length if mean_length else 1.0
                )
                count = bag[token]
                scores[i] += idf * count * (self.settings.k1 + 1) / (count + self.settings.k1 * length)
        return scores

    def candidates(self, text: str | None, vector: Vector | None, depth: int) -> Candidates:
        if vector is not None and vector.shape != (self.dimension,):
            raise ValueError(f"expected a query vector of shape ({self.dimension},), got {vector.shape}")
        dense = dict[int, float]()
        if vector is not None:
            for i, document in enumerate(self.documents):
                cosine = math.fsum(float(a) * float(b) for a, b in zip(document.vector, vector, strict=True))
                dense[i] = round(cosine, SCORE_DIGITS)
        scored = self.bm25_scores(text) if text is not None else []
        lexical = {i: round(score, SCORE_DIGITS) for i, score in enumerate(scored) if score > 0}
        dense_rank, bm25_rank = _ranks(dense, depth), _ranks(lexical, depth)
        positions = sorted(dense_rank.keys() | bm25_rank.keys())
        return Candidates(
            positions=np.array(positions, np.int64),
            dense=np.array([dense.get(i, 0.0) for i in positions]),
            bm25=np.array([lexical[i] if i in bm25_rank else 0.0 for i in positions]),
            dense_rank=np.array([dense_rank.get(i, 0) for i in positions], np.int64),
            bm25_rank=np.array([bm25_rank.get(i, 0) for i in positions], np.int64),
        )

    def search(
        self, text: str, vector: Vector | None, k: int, *, fusion: FusionSettings, depth: int
    ) -> tuple[Hit, ...]:
        check_query(k, depth, vector, fusion)
        w = fusion.dense_weight
        found = self.candidates(text if w < 1 else None, vector if w > 0 else None, depth)
        top = max(found.bm25.tolist(), default=0.0)
        listed = []
        for i, position in enumerate(found.positions.tolist()):
            dense, bm25 = float(found.dense[i]), float(found.bm25[i])
            dense_rank, bm25_rank = int(found.dense_rank[i]), int(found.bm25_rank[i])
            if w in (0, 1):
                score = dense if w == 1 else bm25
            elif fusion.method == "rrf":
                score = w / (fusion.rrf_k + dense_rank) if dense_rank else 0.0
                score += (1 - w) / (fusion.rrf_k + bm25_rank) if bm25_rank else 0.0
            else:
                score = w * dense + (1 - w) * (bm25 / top if top else 0.0)
            document = self.documents[position]
            listed.append((-round(score, 2 * SCORE_DIGITS), document, dense, bm25 if bm25_rank else None))
        listed.sort(key=lambda entry: (entry[0], entry[1].document_id))
        return tuple(
            Hit(
                rank=rank,
                document_id=document.document_id,
                text_hash=document.text_hash,
                score=-negative,
                dense_score=dense if w > 0 else None,
                bm25_score=bm25_score,
            )
            for rank, (negative, document, dense, bm25_score) in enumerate(listed[:k], start=1)
        )


class ReferenceIndex:
    """`SearchIndex` in plain Python. `analyze` splits a text into tokens; k1 and b are free."""

    def __init__(self, dimension: int, bm25: Bm25Settings, analyze: Analyze) -> None:
        self._latest = ReferenceSnapshot((), dimension, bm25, analyze)

    def snapshot(self) -> IndexSnapshot:
        return self._latest

    def update(self, put: Iterable[IndexedDocument] = (), remove: Collection[str] = ()) -> IndexSnapshot:
        news = list(put)
        old = self._latest
        check_vectors(news, old.dimension)
        kept = {d.document_id: d for d in old.documents if d.document_id not in set(remove)}
        kept.update((document.document_id, document) for document in news)
        documents = tuple(kept[name] for name in sorted(kept))
        self._latest = ReferenceSnapshot(documents, old.dimension, old.settings, old.analyze)
        return self._latest


def _ranks(scores: Mapping[int, float], depth: int) -> dict[int, int]:
    order = sorted(scores, key=lambda i: (-scores[i], i))[:depth]
    return {i: rank for rank, i in enumerate(order, start=1)}
