"""What wrote a data directory: one file that another version of the code reads before it starts anything."""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from infra.local.spec import StackError, StackFiles, write_whole

#: Where things lie below the data directory. Raise it when one moves.
LAYOUT = 1


class DataVersion(msgspec.Struct, frozen=True, kw_only=True):
    """Versions of what last wrote a data directory."""

    layout: int = LAYOUT
    #: Of this project, for people.
    ratchet: str
    #: The last migration of the store.
    migration: int
    #: The fold that wrote the tables.
    fold: int
    engine: str
    kafka: str


def version_path(directory: Path) -> Path:
    """`version.json` of a data directory."""
    return directory / "version.json"


def read_version(directory: Path) -> DataVersion | None:
    """What is written there; None in a directory of before there was such a file, or a new one.

    Raises StackError if the file cannot be understood.
    """
    path = version_path(directory)
    try:
        return msgspec.json.decode(path.read_bytes(), type=DataVersion)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StackError(
            f"{path} cannot be read ({error}): restore the file, or start the version that wrote it"
        ) from error


def write_version(directory: Path, version: DataVersion) -> None:
    """Replace the file. Raises StackError."""
    path = version_path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        write_whole(path, msgspec.json.format(msgspec.json.encode(version), indent=1))
    except OSError as error:
        raise StackError(f"cannot write {path}: {error.strerror}") from error


def refuse_newer(found: DataVersion, present: DataVersion, directory: Path) -> None:
    """Raises StackError if newer code wrote the directory: this one would not understand all of it."""
    newer = [
        f"{name} {there} (this version: {here})"
        for name, there, here in (
            ("layout", found.layout, present.layout),
            ("migration", found.migration, present.migration),
            ("fold", found.fold, present.fold),
            ("engine", found.engine, present.engine),
            ("Kafka", found.kafka, present.kafka),
        )
        if _numbers(there) > _numbers(here)
    ]
    if newer:
        raise StackError(
            f"{directory} was written by a newer version, {found.ratchet}: {', '.join(newer)}; "
            "start that version, or name another directory"
        )


@contextmanager
def upgrade_lock(directory: Path) -> Iterator[None]:
    """One upgrade of a directory at a time; another waits. Raises StackError if no lock can be made."""
    files = StackFiles(directory)
    files.make()
    lock = os.open(files.private / "upgrade.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _numbers(version: int | str) -> tuple[int, ...]:
    """The numbers of a version, to be compared: `4.1.0` is less than `4.10`."""
    if isinstance(version, int):
        return (version,)
    return tuple(int(number) for number in re.findall(r"\d+", version))
