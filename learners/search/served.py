"""Versions in memory, kept in step with the tenant's documents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from learners.pipeline.embedder import EmbedderPool
from learners.pipeline.pipeline import Pipeline, open_version
from learners.pipeline.vectors import DocumentVectors
from schemas.corpus import Corpus
from schemas.documents import DocumentStored


class ServedVersion:
    """A version and how far its index follows the corpus. `refresh` may run beside searches."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        #: Corpus generation that the index holds whole.
        self.generation = -1

    def refresh(self, put: Sequence[DocumentStored], removed: Sequence[str], generation: int) -> None:
        """Bring the index to `generation`: slow when much is new (it encodes)."""
        if put or removed:
            self.pipeline.update_documents(put, removed)
        self.generation = generation


class ServedTenant:
    """A tenant's corpus and the versions that serve it."""

    def __init__(self, vectors: Path) -> None:
        self.corpus = Corpus()
        self.versions: dict[str, ServedVersion] = {}
        #: The champion that was loaded last: it answers until the present one is loaded.
        self.last_champion = ""
        self._vectors_path = vectors
        self._vectors: DocumentVectors | None = None

    def open(self, directory: Path, pool: EmbedderPool) -> ServedVersion:
        """Open a version, hashes verified, without documents. Raises VersionDamaged."""
        if self._vectors is None:
            self._vectors = DocumentVectors(self._vectors_path)
        return ServedVersion(open_version(directory, vectors=self._vectors, pool=pool))
