"""Small disks that can be filled: tmpfs in a mount namespace of our own, which needs no root."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from infra.local.spec import ProcessSpec

_BALLAST: Final = ".ballast"
_CHUNK: Final = bytes(1 << 20)
#: Mounts each directory, says so, and keeps the namespace until standard input closes.
_SCRIPT: Final = """
size=$1; shift
for directory in "$@"; do mount -t tmpfs -o "size=$size" ratchet-chaos "$directory" || exit 1; done
echo mounted
exec cat
"""


class SmallDisks:
    """A tmpfs for each directory, seen only by the processes that `wrap` starts; gone at `close`."""

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
