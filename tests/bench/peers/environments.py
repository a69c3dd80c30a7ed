"""Peers from PyPI, each in an environment of its own below var/peers; nothing of ours is in there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.bench.stack import BenchError

ENVIRONMENTS: Final = Path("var/peers")


def install(package: str, name: str) -> Path:
    """The folder of programs of an environment with the newest release of `package`; made if it is absent.

    An environment that stands is used as it is: remove it for a newer release. Raises BenchError.
    """
    environment = (ENVIRONMENTS / name).resolve()
    if _has(environment, package):
        return environment / "bin"
    uv = shutil.which("uv")
    if uv is None:
        raise BenchError("expected the program `uv` on PATH, which installs the peers; found none")
    _run(uv, "venv", "--clear", "--python", f"{sys.version_info[0]}.{sys.version_info[1]}", str(environment))
    _run(uv, "pip", "install", "--python", str(environment / "bin/python"), package)
    return environment / "bin"


def version_of(programs: Path, package: str) -> str:
    """Version of an installed package."""
    return _run(
        str(programs / "python"), "-c", f"from importlib.metadata import version; print(version({package!r}))"
    )


def _has(environment: Path, package: str) -> bool:
    python = environment / "bin/python"
    question = f"from importlib.metadata import version; version({package!r})"
    return (
        python.exists()
        and subprocess.run([python, "-c", question], capture_output=True, check=False).returncode == 0
    )


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout.strip()
