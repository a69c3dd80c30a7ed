"""The documents of a frozen dataset, as a pipeline takes them, and the hash that names the dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from learners.freeze.dataset import MANIFEST
from learners.ports import CurrentDocument
from schemas.documents import DocumentStored


def stored_documents(documents: Sequence[CurrentDocument]) -> list[DocumentStored]:
    """The same documents in the form in which they were stored; fields are not searched."""
    return [
        DocumentStored(document_id=document.document_id, title=document.title, text=document.text)
        for document in documents
    ]


def dataset_hash(dataset: Path) -> str:
    """SHA-256 (hex) of the dataset's manifest, which names every file's hash: stands in `pipeline.json`."""
    return hashlib.sha256((dataset / MANIFEST).read_bytes()).hexdigest()
