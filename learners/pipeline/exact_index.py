"""Exact search in one process: every vector is compared (numpy), and BM25 by tantivy.

Each snapshot has its own lexical index, built from its documents in order of id by one thread. So scores and
ties depend on the set of documents only; with deletions in place tantivy would count removed documents too.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import tantivy

from learners.pipeline.fusion import Candidates, Floats, Ints, fuse, select_candidates
from learners.pipeline.index import (
    Hit,
    IndexedDocument,
    IndexSnapshot,
    Matrix,
    Vector,
    check_query,
    make_hits,
)
from schemas.versions import Analyzer, Bm25Settings, FusionSettings

#: tantivy's BM25 has these built in.
_K1: Final = 1.2
_B: Final = 0.75
#: Tokens of more bytes are not indexed; as in tantivy's own analyzers.
_MAX_TOKEN_BYTES: Final = 40
_WRITER_HEAP_BYTES: Final = 64_000_000


def make_analyzer(name: Analyzer) -> tantivy.TextAnalyzer:
    """Split at what is no letter or digit, drop very long tokens, lower-case, and stem for `en_stem`."""
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(_MAX_TOKEN_BYTES)).filter(tantivy.Filter.lowercase())
    if name == "en_stem":
        builder = builder.filter(tantivy.Filter.stemmer("english"))
    return builder.build()


class Bm25Arm:
    """BM25 over fixed texts; position i is `texts[i]`. Read-only once built, safe from any thread."""

    def __init__(self, texts: Sequence[str], settings: Bm25Settings) -> None:
        if (settings.k1, settings.b) != (_K1, _B):
            raise ValueError(
                f"this index computes BM25 with k1 {_K1} and b {_B} only, the version asks for "
                f"k1 {settings.k1} and b {settings.b}: set those, or serve it from an index that can"
            )
        self._analyzer = make_analyzer(settings.analyzer)
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", tokenizer_name="ratchet", index_option="freq")
        builder.add_integer_field("position", fast=True)
        self._schema = builder.build()
        index = tantivy.Index(self._schema)
        index.register_tokenizer("ratchet", self._analyzer)
        writer = index.writer(_WRITER_HEAP_BYTES, 1)
        for position, text in enumerate(texts):
            writer.add_document(tantivy.Document(text=text, position=position))
        writer.commit()
        writer.wait_merging_threads()
        index.reload()
        self._searcher = index.searcher()

    def top(self, text: str, depth: int) -> tuple[Ints, Floats]:
        """Positions and scores of the best `depth` documents that share a token with `text`."""
        # A token counts once, however often the query repeats it.
        terms = [
            (tantivy.Occur.Should, tantivy.Query.term_query(self._schema, "text", token, "freq"))
            for token in dict.fromkeys(self._analyzer.analyze(text))
        ]
        if not terms:
            return np.empty(0, np.int64), np.empty(0)
        hits = self._searcher.search(tantivy.Query.boolean_query(terms), depth, count=False).hits
        positions = self._searcher.fast_field_values("position", [address for _, address in hits])
        return np.array(positions, np.int64), np.array([score for score, _ in hits], np.float64)


@dataclass(frozen=True, eq=False)
class ExactSnapshot:
    """A state of `ExactIndex`. `vectors`: [n, dimension] float32, `texts`: [n], both in order of id."""

    document_ids: tuple[str, ...]
    text_hashes: tuple[str, ...]
    texts: tuple[str, ...]
    vectors: Matrix
    bm25: Bm25Arm = field(repr=False)

    def candidates(self, text: str | None, vector: Vector | None, depth: int) -> Candidates:
        if vector is not None and vector.shape != self.vectors.shape[1:]:
            raise ValueError(f"expected a query vector of shape {self.vectors.shape[1:]}, got {vector.shape}")
        dense = None if vector is None else self.vectors @ vector
        positions, scores = (
            (np.empty(0, np.int64), np.empty(0)) if text is None else self.bm25.top(text, depth)
        )
        return select_candidates(dense, positions, scores, depth)

    def search(
        self, text: str, vector: Vector | None, k: int, *, fusion: FusionSettings, depth: int
    ) -> tuple[Hit, ...]:
        check_query(k, depth, vector, fusion)
        candidates = self.candidates(
            text if fusion.dense_weight < 1 else None, vector if fusion.dense_weight > 0 else None, depth
        )
        return make_hits(self, candidates, *fuse(candidates, fusion, k), fusion)


class ExactIndex:
    """`SearchIndex` for up to about 100,000 documents in memory."""

    def __init__(self, dimension: int, bm25: Bm25Settings) -> None:
        self._bm25 = bm25
        self._updates = threading.Lock()
        self._latest = ExactSnapshot((), (), (), np.empty((0, dimension), np.float32), Bm25Arm((), bm25))

    def snapshot(self) -> IndexSnapshot:
        return self._latest

    def update(self, put: Iterable[IndexedDocument] = (), remove: Collection[str] = ()) -> IndexSnapshot:
        news = {document.document_id: document for document in put}
        check_vectors(news.values(), self._latest.vectors.shape[1])
        with self._updates:
            self._latest = self._next(news, set(remove))
            return self._latest

    def _next(self, news: dict[str, IndexedDocument], removed: set[str]) -> ExactSnapshot:
        old = self._latest
        kept = [i for i, name in enumerate(old.document_ids) if name not in removed and name not in news]
        added = list(news.values())
        names = [old.document_ids[i] for i in kept] + [document.document_id for document in added]
        order = sorted(range(len(names)), key=names.__getitem__)
        hashes = [old.text_hashes[i] for i in kept] + [document.text_hash for document in added]
        texts = [old.texts[i] for i in kept] + [document.text for document in added]
        fresh = np.array([document.vector for document in added], np.float32).reshape(
            -1, old.vectors.shape[1]
        )
        ordered_texts = tuple(texts[i] for i in order)
        return ExactSnapshot(
            document_ids=tuple(names[i] for i in order),
            text_hashes=tuple(hashes[i] for i in order),
            texts=ordered_texts,
            vectors=np.concatenate([old.vectors[kept], fresh])[order],
            bm25=Bm25Arm(ordered_texts, self._bm25),
        )


def check_vectors(documents: Iterable[IndexedDocument], dimension: int) -> None:
    """Raise ValueError at the first vector of another shape, or with a value that is not finite."""
    for document in documents:
        if document.vector.shape != (dimension,) or not np.isfinite(document.vector).all():
            raise ValueError(
                f"document {document.document_id!r}: expected a finite vector of shape ({dimension},), "
                f"got shape {document.vector.shape}: encode it with the embedder of this version"
            )
