"""The scratch directory: chaos makes it, marks it, and touches no other."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from infra.chaos.scene import ChaosError
from infra.local.spec import StackFiles
from infra.local.stack import down

MARK: Final = ".ratchet-chaos"
_MARK_TEXT: Final = "Made by `ratchet chaos`, which removes everything in this directory when it starts.\n"


class Place:
    """`project/` is the stack's, `second/` the second worker's, `clients/` holds what clients know."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.project = self.directory / "project"
        self.second = self.directory / "second"
        self.clients = self.directory / "clients"

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """The directory is ours, and empty, in this block.

        Raises ChaosError: somebody else's files are in it, another chaos has it, or it cannot be made.
        """
        self._check_ours()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            (self.directory / MARK).write_text(_MARK_TEXT, encoding="utf-8")
            lock = os.open(self.directory / MARK, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise ChaosError(f"cannot use {self.directory}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ChaosError(
                    f"chaos runs in {self.directory} already: wait for it, or name another --scratch"
                ) from error
            self._empty()
            yield
        finally:
            os.close(lock)

    def remove(self) -> None:
        """All of it."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _check_ours(self) -> None:
        directory = self.directory
        if directory.exists() and not (directory / MARK).is_file():
            if not directory.is_dir():
                raise ChaosError(f"{directory} is no directory: name another --scratch")
            if any(directory.iterdir()):
                raise ChaosError(
                    f"{directory} holds files that chaos did not make, and chaos destroys what it works on: "
                    "name an empty or new directory with --scratch"
                )

    def _empty(self) -> None:
        if StackFiles(self.project / "var").lock.exists():
            down(self.project / "var")  # what a killed run left
        for name in (self.project, self.second, self.clients):
            shutil.rmtree(name, ignore_errors=True)
            name.mkdir()
