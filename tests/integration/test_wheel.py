"""The wheel, outside the checkout: what a user installs holds all that it needs, and nothing of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]


def run(*command: str | Path, cwd: Path, timeout_s: float = 200.0) -> str:
    """Run a command in an almost empty environment; it must succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def test_the_wheel_runs_a_stack_of_its_own(tmp_path: Path) -> None:
    # a company's own certificates are in the system's store, which uv does not read by itself
    uv = (Path(sys.executable).parent / "uv", "--system-certs")
    run(*uv, "build", "--wheel", "--out-dir", tmp_path / "dist", ROOT, cwd=tmp_path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if name.startswith(("tests/", "api/client/", "var/"))]
    assert [name for name in names if name.startswith("infra/clickhouse/migrations/")]

    run(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    run(*uv, "pip", "install", "--python", python, "-c", constraints, f"{wheel}[local]", cwd=tmp_path)
    ratchet = tmp_path / "venv" / "bin" / "ratchet"
    project = tmp_path / "project"
    project.mkdir()
    assert "kafka.bootstrap" in run(ratchet, "config", "show", cwd=project)
    try:
        run(ratchet, "up", "--no-learn", cwd=project)
        assert "running" in run(ratchet, "status", cwd=project)
        assert (
            run(ratchet, "sql", "--format", "TSV", "SELECT count() FROM events", cwd=project).strip() == "0"
        )
    finally:
        run(ratchet, "down", cwd=project)
