"""Disks that can be filled: tmpfs in a mount namespace of our own (no root needed), else bounded files."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol

import psutil

from infra.local.spec import ProcessSpec

_BALLAST: Final = ".ballast"
_CHUNK: Final = bytes(1 << 20)
_TINY_FILE_BYTES: Final = 4096
#: Mounts each directory, says so, and keeps the namespace until standard input closes.
_SCRIPT: Final = """
size=$1; shift
for directory in "$@"; do mount -t tmpfs -o "size=$size" ratchet-chaos "$directory" || exit 1; done
echo mounted
exec cat
"""


class FullDisks(Protocol):
    """What a process writes to, and how it gets no room."""

    #: For the report.
    how: str

    def fill(self, name: str) -> None:
        """Leave the process of this name no byte. Called again and again: what it restarts as has none."""
        ...

    def free(self, name: str) -> None:
        """As before."""
        ...


class SmallDisks:
    """A tmpfs for each directory, seen only by the processes that `wrap` starts; gone at `close`."""

    how = "tmpfs in a user namespace"

    def __init__(self, holder: subprocess.Popen[bytes], directories: Mapping[str, Path]) -> None:
        self._holder = holder
        self._directories = directories

    @classmethod
    def mount(cls, directories: Mapping[str, Path], size_bytes: int) -> SmallDisks | None:
        """Process name → its directory, mounted with this size; None where the system does not allow it."""
        for directory in directories.values():
            directory.mkdir(parents=True, exist_ok=True)
        script = ("sh", "-c", _SCRIPT, "sh", str(size_bytes), *map(str, directories.values()))
        try:
            holder = subprocess.Popen(
                ["unshare", "--user", "--map-root-user", "--mount", "--propagation", "private", *script],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:
            return None
        assert holder.stdout is not None
        if holder.stdout.readline() != b"mounted\n":
            holder.communicate()
            return None
        return cls(holder, directories)

    def wrap(self, process: ProcessSpec, cwd: Path) -> tuple[str, ...]:
        """Its command line, inside the namespace."""
        enter = ("nsenter", "--user", "--mount", "--preserve-credentials", f"--wd={cwd}")
        return (*enter, f"--target={self._holder.pid}", "--", *process.argv)

    def fill(self, name: str) -> None:
        """Leave no byte free."""
        with self._ballast(name).open("ab", buffering=0) as ballast:
            for chunk in (_CHUNK, _CHUNK[:4096], _CHUNK[:1]):
                try:
                    while ballast.write(chunk):
                        continue
                except OSError:
                    continue

    def free(self, name: str) -> None:
        """As before."""
        self._ballast(name).unlink(missing_ok=True)

    def close(self) -> None:
        """Let the namespace go, and what is on the disks with it."""
        self._holder.communicate()

    def _ballast(self, name: str) -> Path:
        return Path(f"/proc/{self._holder.pid}/root{self._directories[name]}") / _BALLAST


class BoundedFiles:
    """The next best, where no small disk can be mounted: no file of a process may grow beyond a page.

    RLIMIT_FSIZE of the living process, set from outside; the next one has none until it is filled again.
    """

    how = "RLIMIT_FSIZE on Kafka"

    def __init__(self, pid_of: Callable[[str], int | None]) -> None:
        """`pid_of`: the process of a name, while it lives."""
        self._pid_of = pid_of

    def fill(self, name: str) -> None:
        """No byte beyond the first page of a file, by the process that lives now, if one does."""
        self._bound(name, _TINY_FILE_BYTES)

    def free(self, name: str) -> None:
        """As much as the system allows."""
        self._bound(name, resource.RLIM_INFINITY)

    def _bound(self, name: str, size_bytes: int) -> None:
        pid = self._pid_of(name)
        if pid is None:
            return
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it may end meanwhile
            process = psutil.Process(pid)
            _, hard = process.rlimit(resource.RLIMIT_FSIZE)
            soft = hard if size_bytes == resource.RLIM_INFINITY else size_bytes
            process.rlimit(resource.RLIMIT_FSIZE, (soft, hard))
