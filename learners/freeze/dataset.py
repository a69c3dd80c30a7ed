"""A frozen dataset as a directory: what a trial and the judge read, and the manifest that says what it is.

    train.jsonl       TrainQuestion a line, by question_id
    validation.jsonl  GradedQuestion a line
    judge.jsonl       GradedQuestion a line
    documents.jsonl   CurrentDocument a line, by document_id: the corpus of every split
    counts.json       FeedbackCounts
    manifest.json     DatasetManifest

Equal input gives equal bytes. A directory under its final name is complete: it is written beside and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, TypeVar

import msgspec
from msgspec import Struct

from learners.freeze.labels import GradedQuestion, TrainQuestion
from learners.freeze.readiness import FeedbackCounts
from learners.ports import CurrentDocument
from schemas.codec import canonical_json
from schemas.datasets import DatasetManifest
from schemas.errors import Fatal

_T = TypeVar("_T", bound=Struct)

TRAIN: Final = "train.jsonl"
VALIDATION: Final = "validation.jsonl"
JUDGE: Final = "judge.jsonl"
DOCUMENTS: Final = "documents.jsonl"
COUNTS: Final = "counts.json"
MANIFEST: Final = "manifest.json"


def lines(rows: Sequence[Struct]) -> bytes:
    """The bytes of a JSONL file: canonical JSON a line."""
    return b"".join(canonical_json(row) + b"\n" for row in rows)


def dataset_id(manifest: DatasetManifest) -> str:
    """SHA-256 (hex, 32 digits) of tenant, rules and files; not of offsets: a longer log may hold the same
    data.
    """
    content = {"tenant": manifest.tenant, "rules": manifest.rules, "files": manifest.files}
    return hashlib.sha256(canonical_json(content)).hexdigest()[:32]


def write_dataset(root: Path, files: dict[str, bytes], manifest: DatasetManifest) -> Path:
    """Write `<root>/<dataset_id>` and return it; an existing one of that id has the same content and stays.

    Files and directory are synced before the rename, and the rename before the return.
    """
    target = root / manifest.dataset_id
    if target.exists():
        return target
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f".{manifest.dataset_id}.{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, data in {**files, MANIFEST: canonical_json(manifest)}.items():
        with (draft / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync(draft)
    draft.rename(target)
    _sync(root)
    return target


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class Dataset:
    """A dataset directory, verified when opened; rows are read when asked for."""

    def __init__(self, directory: Path) -> None:
        """Raises Fatal if the directory is not what its manifest says."""
        self._directory = directory
        self.manifest: Final = msgspec.json.decode((directory / MANIFEST).read_bytes(), type=DatasetManifest)
        for name, expected in self.manifest.files.items():
            found = hashlib.sha256((directory / name).read_bytes()).hexdigest()
            if found != expected:
                raise Fatal(
                    f"{directory / name}: expected SHA-256 {expected}, found {found}; delete the directory "
                    "and freeze again, the log gives the same bytes"
                )
        if dataset_id(self.manifest) != self.manifest.dataset_id:
            raise Fatal(f"{directory / MANIFEST}: its id is not the hash of what it says; freeze again")

    @property
    def counts(self) -> FeedbackCounts:
        return msgspec.json.decode((self._directory / COUNTS).read_bytes(), type=FeedbackCounts)

    def train(self) -> list[TrainQuestion]:
        """Questions to train on."""
        return list(self._rows(TRAIN, TrainQuestion))

    def validation(self) -> list[GradedQuestion]:
        """Questions that choose among trials."""
        return list(self._rows(VALIDATION, GradedQuestion))

    def judge(self) -> list[GradedQuestion]:
        """Questions that only the judge may read."""
        return list(self._rows(JUDGE, GradedQuestion))

    def documents(self) -> list[CurrentDocument]:
        """The corpus as of the offsets."""
        return list(self._rows(DOCUMENTS, CurrentDocument))

    def _rows(self, name: str, kind: type[_T]) -> Iterator[_T]:
        decoder = msgspec.json.Decoder(kind)
        with (self._directory / name).open("rb") as file:
            for line in file:
                yield decoder.decode(line)
