"""Where a run keeps its files: `project/` is the stack's, `report.json` and `client.jsonl` lie beside it.

So does `.demo-truth/`, while `ratchet evaluate` reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from infra.demo.errors import DemoError
from infra.demo.plan import WRITTEN_BY_DEMO


def truth_beside(project: Path) -> Path:
    """Where known answers lie while they are read: never in the stack's own directory."""
    return project.with_name(".demo-truth")


class Place:
    """A directory for one run at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.project = self.directory / "project"
        self.report = self.directory / "report.json"
        self.record = self.directory / "client.jsonl"

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """The directory is ours in this block. Raises DemoError: another run has it, or it cannot be made."""
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = os.open(self.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DemoError(f"cannot use {self.directory}: {error.strerror}") from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DemoError(
                    f"a demo runs in {self.directory} already: wait for it, or name another --directory"
                ) from error
            yield
        finally:
            os.close(lock)

    def make_project(self, settings: str) -> None:
        """A fresh project with these settings. Raises DemoError: what lies there is not the demo's."""
        if self.project.exists():
            self.check_ours()
            shutil.rmtree(self.project)
            # only a run that was killed while it measured leaves it
            shutil.rmtree(truth_beside(self.project), ignore_errors=True)
        self.report.unlink(missing_ok=True)
        self.project.mkdir()
        (self.project / "ratchet.toml").write_text(settings, encoding="utf-8")

    def check_ours(self) -> None:
        """Raises DemoError if the project was not written by a demo: it would be removed."""
        settings = self.project / "ratchet.toml"
        if not settings.is_file() or not settings.read_text(encoding="utf-8").startswith(WRITTEN_BY_DEMO):
            raise DemoError(
                f"{self.project} was not made by the demo, which would remove it: name another --directory"
            )
