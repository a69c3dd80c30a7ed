"""The rooms' rules that import-linter cannot say: adapters and ports, what stays light, whose names."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("ingest", "streams", "learners")
TOP_LEVEL = ("schemas", "ingest", "streams", "learners", "api", "infra")
HEAVY = ("torch", "evidently", "optuna", "transformers", "sentence_transformers", "pandas", "tantivy", "chdb")


def imported_modules(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module


def test_adapters_import_a_room_through_its_ports_only() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in (ROOT / "infra").rglob("*.py")
        for module in imported_modules(path)
        if module.split(".")[0] in ROOMS and module.split(".")[1:] != ["ports"]
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "modules",
    [
        "api.processes.http, api.http.app, infra.kafka.producer, infra.kafka.lifecycle",
        "api.processes.streams, streams.faust_app, infra.clickhouse.sink, infra.clickhouse.migrate",
        "api.processes.learner, learners.daemon.learner, infra.clickhouse.learning",
        "api.processes.alerts, api.alerts.watch, api.alerts.webhook, api.alerts.scraping, api.http.alerts",
        "api.processes.inbox, infra.kafka.inbox, ingest.inbox",
        "api.cli.main, api.cli.stack, api.cli.config, api.cli.imports",
    ],
)
def test_what_runs_all_day_imports_nothing_heavy(modules: str) -> None:
    program = f"import sys, {modules}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


def test_no_other_distribution_claims_our_top_level_names() -> None:
    owners = importlib.metadata.packages_distributions()
    claimed = {
        name: set(owners.get(name, ())) - {"ratchet-platform"} for name in (*TOP_LEVEL, "ratchet_client")
    }
    claimed["ratchet_client"] -= {"ratchet-client"}
    assert {name: others for name, others in claimed.items() if others} == {}


def test_modules_keep_their_size() -> None:
    sizes = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for room in TOP_LEVEL
        for path in (ROOT / room).rglob("*.py")
    }
    assert {name: lines for name, lines in sizes.items() if lines > 600} == {}
