"""One real stack for the tests that need all of it, in the most awkward directory we can think of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live_services import wait_for

BIN = Path(sys.executable).parent
START_S = 180.0
SETTINGS = """
[learner]
poll_s = 1.0
trials = 2
max_training_questions = 100

[tenants.learning]
key = "key-of-learning"

[tenants.mending]
key = "key-of-mending"
"""


class LiveStack:
    """A running stack and its command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def environment(self) -> dict[str, str]:
        """An empty environment but for what a shell has, and our commands on the path."""
        return {"PATH": f"{BIN}:/usr/local/bin:/usr/bin:/bin", "HOME": os.environ["HOME"], "LANG": "C.UTF-8"}

    def run(self, *arguments: str, check: bool = True, timeout_s: float = 120.0) -> str:
        """`ratchet …` in the stack's directory; what it printed."""
        done = subprocess.run(
            ["ratchet", *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        assert not check or done.returncode == 0, f"ratchet {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def status(self) -> dict[str, Any]:
        """`ratchet status --json`."""
        found: dict[str, Any] = json.loads(self.run("status", "--json", check=False))
        return found

    def sql(self, query: str) -> list[dict[str, Any]]:
        """Rows of a SELECT by the analysts' account."""
        lines = self.run("sql", "--format", "JSONEachRow", query).splitlines()
        return [json.loads(line) for line in lines if line.strip()]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """All six processes, in a directory with a space and with folders named like our rooms."""
    directory = tmp_path_factory.mktemp("a stack") / "my project"
    for room in ("api", "schemas", "tests", "streams", "learners", "infra"):
        (directory / room).mkdir(parents=True)
        (directory / room / "__init__.py").write_text("raise ImportError('this is the user's own folder')\n")
    (directory / "ratchet.toml").write_text(SETTINGS)
    live = LiveStack(directory)
    # standard input is ours: the stack ends when this process does, however it ends
    up = subprocess.Popen(
        ["ratchet", "up", "--tied"],
        cwd=directory,
        env=live.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(
            "the stack's start",
            lambda: up.poll() is not None or bool(live.status().get("healthy")),
            limit_s=START_S,
        )
        assert up.poll() is None, up.communicate()[1].decode()
        yield live
    finally:
        up.communicate(timeout=90)
