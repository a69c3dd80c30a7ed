"""A version at work: documents in, ranked lists out."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from learners.pipeline.embedder import Embedder, EmbedderPool, load_embedder
from learners.pipeline.exact_index import ExactIndex
from learners.pipeline.fusion import Candidates, fuse
from learners.pipeline.index import Hit, IndexedDocument, IndexSnapshot, Matrix, SearchIndex, make_hits
from learners.pipeline.manifest import VersionDamaged, verify_version
from learners.pipeline.vectors import DocumentVectors
from schemas.documents import DocumentStored, text_hash
from schemas.versions import EMBEDDER_FOLDER, FusionSettings, PipelineManifest, PipelineSettings


class Pipeline:
    """Everything between a query's text and its list, for one version and one set of documents.

    Threads may search while another updates the documents: each search sees one complete state.
    `settings` are the manifest's unless `with_settings` made this pipeline.
    """

    def __init__(
        self,
        manifest: PipelineManifest,
        embedder: Embedder,
        *,
        index: SearchIndex | None = None,
        vectors: DocumentVectors | None = None,
        settings: PipelineSettings | None = None,
    ) -> None:
        self.manifest = manifest
        self.settings = settings or manifest.settings
        self._embedder = embedder
        self._vectors = vectors
        self._index = index or ExactIndex(embedder.settings.dimension, self.settings.bm25)

    @property
    def version(self) -> str:
        return self.manifest.version

    @property
    def embedder(self) -> Embedder:
        return self._embedder

    def snapshot(self) -> IndexSnapshot:
        """The documents as they are searched now; `document_ids` name the positions in `Candidates`."""
        return self._index.snapshot()

    def with_settings(self, *, fusion: FusionSettings | None = None, depth: int | None = None) -> Pipeline:
        """The same embedder and documents, searched with other settings: a trial that trains nothing."""
        settings = msgspec.structs.replace(
            self.settings, fusion=fusion or self.settings.fusion, depth=depth or self.settings.depth
        )
        return Pipeline(
            self.manifest, self._embedder, index=self._index, vectors=self._vectors, settings=settings
        )

    def update_documents(self, put: Iterable[DocumentStored] = (), remove: Collection[str] = ()) -> None:
        """Encode what is new, then publish one new state with all of it. `put` replaces by id; the last wins.

        Slow when much is new; stored vectors are reused. Killed in the middle, it goes on from what was
        stored.
        """
        documents = list({document.document_id: document for document in put}.values())
        texts = [render(self.settings.document_template, document) for document in documents]
        vectors = self._encode_documents(texts)
        self._index.update(
            put=[
                IndexedDocument(
                    document_id=document.document_id,
                    text=text,
                    text_hash=text_hash(document.title, document.text),
                    vector=vector,
                )
                for document, text, vector in zip(documents, texts, vectors, strict=True)
            ],
            remove=remove,
        )

    def search(self, text: str, k: int = 10) -> tuple[Hit, ...]:
        """The best `k` documents for one query; ask for 50 to explore. Raises ValueError if k > depth."""
        fusion = self.settings.fusion
        vector = self._embedder.encode_queries([text])[0] if fusion.dense_weight > 0 else None
        return self._index.snapshot().search(text, vector, k, fusion=fusion, depth=self.settings.depth)

    def rank_many(
        self, texts: Sequence[str], k: int = 10, *, vectors: Matrix | None = None
    ) -> list[tuple[Hit, ...]]:
        """`search` for each text, encoded in batches: the same lists, but that scores may differ by 1e-5.

        `vectors`: those of `texts` by this embedder, from a caller that has them already. All lists come from
        one state of the documents.
        """
        fusion, depth, snapshot = self.settings.fusion, self.settings.depth, self._index.snapshot()
        if fusion.dense_weight == 0:
            return [snapshot.search(text, None, k, fusion=fusion, depth=depth) for text in texts]
        if vectors is None:
            vectors = self._embedder.encode_queries(texts)
        return [
            snapshot.search(text, vector, k, fusion=fusion, depth=depth)
            for text, vector in zip(texts, vectors, strict=True)
        ]

    def candidates_many(self, texts: Sequence[str]) -> list[Candidates]:
        """What both arms list for each text, whatever the fusion; `rank_candidates` ranks it by any settings.

        Positions point into `snapshot().document_ids`; do not update documents in between.
        """
        snapshot = self._index.snapshot()
        return [
            snapshot.candidates(text, vector, self.settings.depth)
            for text, vector in zip(texts, self._embedder.encode_queries(texts), strict=True)
        ]

    def _encode_documents(self, texts: Sequence[str]) -> Matrix:
        if not texts:
            return np.empty((0, self._embedder.settings.dimension), np.float32)
        if self._vectors is None:
            return self._embedder.encode_documents(texts)
        return self._vectors.encode(self._embedder, self.manifest.document_encoding_hash, texts)


def open_version(
    directory: Path,
    *,
    vectors: DocumentVectors | None = None,
    index: SearchIndex | None = None,
    pool: EmbedderPool | None = None,
) -> Pipeline:
    """Verify the version in `directory` (every hash), load its embedder, and return it without documents.

    `vectors`: keeps document vectors between runs. `index`: an empty one to fill, by default
    `ExactIndex`. `pool`: shares embedders between versions. Raises VersionDamaged if anything is not as
    published.
    """
    manifest = verify_version(directory)
    try:
        embedder = (
            pool.get(directory, manifest)
            if pool is not None
            else load_embedder(directory / EMBEDDER_FOLDER, manifest.settings.embedder)
        )
    except ValueError as error:
        raise VersionDamaged(
            directory, EMBEDDER_FOLDER, expected="an embedder that fits the settings", got=str(error)
        ) from error
    return Pipeline(manifest, embedder, index=index, vectors=vectors)


def rank_candidates(
    snapshot: IndexSnapshot, candidates: Candidates, fusion: FusionSettings, k: int
) -> tuple[Hit, ...]:
    """The list that a search with `fusion` gives, from candidates that were taken once for all settings."""
    return make_hits(snapshot, candidates, *fuse(candidates, fusion, k), fusion)


def render(template: str, document: DocumentStored) -> str:
    """Fill `{title}` and `{text}` in; other braces stay as they are, and the ends are stripped."""
    values = {"{title}": document.title, "{text}": document.text}
    return re.sub(r"\{title\}|\{text\}", lambda found: values[found[0]], template).strip()
