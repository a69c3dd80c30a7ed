"""What a backup says of itself."""

from __future__ import annotations

import datetime as dt
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec
from msgspec import Struct

from infra.backup.records import hash_file
from schemas.errors import Fatal

FORMAT: Final = 1
_NAME: Final = "manifest.json"


class PartitionFile(Struct, frozen=True, kw_only=True):
    """The records of a partition: every one from offset 0 to before `end` that the log held."""

    file: str  #: '' if there is none
    end: int
    records: int
    sha256: str


class StoredFile(Struct, frozen=True, kw_only=True):
    """A file that is no part of the log, by its path below `files/`: what it is, then its name."""

    path: str
    sha256: str


class Manifest(Struct, frozen=True, kw_only=True):
    """The whole backup. Offsets are next offsets: the first that is not in it."""

    format: int = FORMAT
    made_at: dt.datetime
    #: What wrote it: ratchet, fold, migration, kafka, engine.
    versions: dict[str, str]
    #: Topic → partition → file.
    log: dict[str, dict[int, PartitionFile]]
    #: Topic → partition → how far the stream worker was; what comes after it has not been judged yet.
    committed: dict[str, dict[int, int]]
    files: tuple[StoredFile, ...] = ()
    #: Secrets and configuration are among the files.
    with_secrets: bool = False

    def ends(self) -> dict[str, dict[int, int]]:
        """Topic → partition → next offset."""
        return {topic: {p: one.end for p, one in files.items()} for topic, files in self.log.items()}


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Last of all: without it there is no backup."""
    path = directory / _NAME
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=1))
    fresh.replace(path)


def read_manifest(directory: Path) -> Manifest:
    """Raises Fatal: no backup, an unfinished one, or one that newer code made."""
    path = directory / _NAME
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Fatal(
            f"{directory} holds no {_NAME}: it is no backup, or one that was interrupted; make another"
        ) from error
    try:
        made_by = msgspec.json.decode(content, type=_OnlyFormat).format
        if made_by > FORMAT:
            raise Fatal(
                f"{directory} has format {made_by}, this version reads {FORMAT}: restore with a newer one"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except msgspec.MsgspecError as error:
        raise Fatal(f"{path} is damaged: {error}; take another copy of the backup") from error

    names = [one.file for files in manifest.log.values() for one in files.values()]
    for name in [*names, *(one.path for one in manifest.files)]:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise Fatal(f"{path} names a file outside the backup: {name!r}; do not use it")
    return manifest


class _OnlyFormat(Struct):
    format: int


def check_files(directory: Path, manifest: Manifest) -> None:
    """Every file is there and as it was written. Raises Fatal, naming the first that is not."""
    every = [one for files in manifest.log.values() for one in files.values()]
    expected = {one.file: one.sha256 for one in every if one.file}
    expected |= {f"files/{one.path}": one.sha256 for one in manifest.files}
    for name, sha256 in expected.items():
        if hash_file(directory / name) != sha256:
            raise Fatal(f"{directory / name} is not as it was written: take another copy of the backup")
