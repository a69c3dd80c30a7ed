"""Document vectors on disk, so that a text is encoded once per embedder, whatever restarts in between."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from learners.pipeline.embedder import Embedder
from learners.pipeline.index import Matrix, Vector

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS vectors (encoding BLOB, text BLOB, vector BLOB, PRIMARY KEY (encoding, text))
WITHOUT ROWID
"""
#: Under SQLite's oldest limit on parameters of one statement.
_KEYS_PER_LOOKUP: Final = 500
#: What a crash may cost at most.
_TEXTS_PER_COMMIT: Final = 64
_LOCK_TIMEOUT_S: Final = 60.0


class DocumentVectors:
    """A cache keyed by (document encoding hash, SHA-256 of the templated text) in one SQLite file.

    Each commit is whole or absent after a crash. Several threads and processes may use one file; whoever
    stores a key first wins, and the values agree to about 1e-6. Losing the file costs time, never
    correctness.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connection() as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute(_SCHEMA)

    def encode(self, embedder: Embedder, encoding_hash: str, texts: Sequence[str]) -> Matrix:
        """[n, dimension] vectors of `texts`; only what is not stored goes through the model, and is stored.

        `encoding_hash`: `PipelineManifest.document_encoding_hash` of the version that `embedder` belongs to.
        """
        keys = [text_key(text) for text in texts]
        known = self.load(encoding_hash, set(keys), embedder.settings.dimension)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in known}
        todo = sorted(missing, key=lambda key: len(missing[key]))
        for start in range(0, len(todo), _TEXTS_PER_COMMIT):
            batch = todo[start : start + _TEXTS_PER_COMMIT]
            vectors = embedder.encode_documents([missing[key] for key in batch])
            fresh = dict(zip(batch, vectors, strict=True))
            self.store(encoding_hash, fresh)
            known.update(fresh)
        matrix = np.empty((len(texts), embedder.settings.dimension), np.float32)
        for row, key in enumerate(keys):
            matrix[row] = known[key]
        return matrix

    def load(self, encoding_hash: str, keys: Collection[bytes], dimension: int) -> dict[bytes, Vector]:
        """What is stored of `keys`. A value of another size than `dimension` float32 counts as not stored."""
        found: dict[bytes, Vector] = {}
        wanted = sorted(keys)
        with self._connection() as connection:
            for start in range(0, len(wanted), _KEYS_PER_LOOKUP):
                part = wanted[start : start + _KEYS_PER_LOOKUP]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT text, vector FROM vectors WHERE encoding = ? AND text IN ({marks})",
                    [bytes.fromhex(encoding_hash), *part],
                )
                for key, blob in rows:
                    vector = np.frombuffer(blob, "<f4").astype(np.float32)
                    if vector.shape == (dimension,):
                        found[key] = vector
        return found

    def store(self, encoding_hash: str, vectors: Mapping[bytes, Vector]) -> None:
        """Add vectors by `text_key`, all or none; keys that are there already keep their value."""
        encoding = bytes.fromhex(encoding_hash)
        with self._connection() as connection:
            connection.executemany(
                "INSERT OR IGNORE INTO vectors VALUES (?, ?, ?)",
                [(encoding, key, vector.astype("<f4").tobytes()) for key, vector in vectors.items()],
            )

    def keep_only(self, encoding_hashes: Collection[str]) -> int:
        """Forget the vectors of all other encodings; how many were forgotten."""
        kept = [bytes.fromhex(encoding) for encoding in encoding_hashes]
        marks = ",".join("?" * len(kept))
        with self._connection() as connection:
            return connection.execute(f"DELETE FROM vectors WHERE encoding NOT IN ({marks})", kept).rowcount

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """One transaction on a connection of its own: SQLite connections do not travel between threads."""
        connection = sqlite3.connect(self._path, timeout=_LOCK_TIMEOUT_S)
        try:
            with connection:
                yield connection
        finally:
            connection.close()


def text_key(text: str) -> bytes:
    """SHA-256 of a templated text."""
    return hashlib.sha256(text.encode()).digest()
