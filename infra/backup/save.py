"""Making a backup: records of the log, then files, then the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from infra.backup.manifest import Manifest, PartitionFile, StoredFile, write_manifest
from infra.backup.records import RecordWriter, hash_file
from schemas.errors import Fatal
from streams.ports import LogReader, Offsets

#: Called with a step, what is done of it, and all of it.
Progress = Callable[[str, int, int | None], None]


def make_directory(directory: Path) -> None:
    """An empty directory of its owner's. Raises Fatal if something is in it."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise Fatal(f"expected an empty directory or none, but {directory} holds something: name another")
        directory.chmod(0o700)
        (directory / "log").mkdir(mode=0o700)
    except OSError as error:
        raise Fatal(f"cannot write into {directory}: {error.strerror}") from error


async def save_log(
    reader: LogReader, ends: Mapping[str, Offsets], directory: Path, progress: Progress
) -> dict[str, dict[int, PartitionFile]]:
    """The records of each topic before `ends`. Raises Fatal if the log has forgotten any of them."""
    saved: dict[str, dict[int, PartitionFile]] = {}
    for topic, offsets in ends.items():
        done, all_of_them = 0, sum(offsets.values())
        for partition, end in sorted(offsets.items()):
            if end == 0:
                saved.setdefault(topic, {})[partition] = PartitionFile(file="", end=0, records=0, sha256="")
                continue
            name = f"log/{topic}-{partition}.zst"
            with RecordWriter(directory / name) as writer:
                async for messages in reader.read(topic, {partition: end}):
                    writer.write(messages)
                    done += len(messages)
                    progress(f"save {topic}", done, all_of_them)
            saved.setdefault(topic, {})[partition] = PartitionFile(
                file=name, end=end, records=writer.records, sha256=writer.sha256
            )
    return saved


def save_files(files: Mapping[str, Path], directory: Path) -> list[StoredFile]:
    """Copy files, each under its name in the backup (`artifacts/…`). Raises Fatal."""
    saved = []
    for name, path in sorted(files.items()):
        copy = directory / "files" / name
        try:
            for folder in reversed(copy.relative_to(directory).parents):
                (directory / folder).mkdir(mode=0o700, exist_ok=True)
            copy.touch(mode=0o600)
            shutil.copyfile(path, copy)
        except OSError as error:
            raise Fatal(f"cannot copy {path}: {error.strerror}") from error
        saved.append(StoredFile(path=name, sha256=hash_file(copy)))
    return saved


def finish(
    directory: Path,
    *,
    made_at: datetime,
    versions: dict[str, str],
    log: dict[str, dict[int, PartitionFile]],
    committed: dict[str, dict[int, int]],
    files: list[StoredFile],
    with_secrets: bool,
) -> Manifest:
    """Write the manifest: from now on it is a backup."""
    manifest = Manifest(
        made_at=made_at,
        versions=versions,
        log=log,
        committed=committed,
        files=tuple(files),
        with_secrets=with_secrets,
    )
    write_manifest(directory, manifest)
    return manifest
