"""`ratchet-client` is a distribution of its own: httpx and the standard library, nothing of the platform."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2] / "api" / "client"


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, path
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


def test_it_imports_httpx_only() -> None:
    modules = sorted((ROOT / "ratchet_client").glob("*.py"))
    assert modules
    names = set().union(*(imported(path) for path in modules))
    assert names - set(sys.stdlib_module_names) == {"httpx", "ratchet_client"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [dependency.partition(">")[0] for dependency in project["dependencies"]] == ["httpx"]


def test_it_works_without_the_platform(tmp_path: Path) -> None:
    code = (
        "import sys, ratchet_client; print([m for m in sys.modules if m in ('schemas', 'ingest', 'msgspec')])"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
