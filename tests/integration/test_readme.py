"""The README's own-data section, run as a newcomer would."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest

from tests.integration.conftest import LiveStack

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]
README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    """The text of a README section, its subsections included."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", README, re.S | re.M)
    assert found is not None, f"README has no section {title!r}"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    """The code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.S | re.M)


OWN_DATA = section("Your own data in ten minutes")
#: Starting and stopping are the fixture's; everything else is run as it stands.
SKIPPED = (". .venv/bin/activate", "mkdir -p my-project", "ratchet up", "ratchet down")


def test_own_data_in_ten_minutes(stack: LiveStack) -> None:
    shell = "\n".join(blocks(OWN_DATA, "sh"))
    lines = [line for line in shell.splitlines() if not line.startswith(SKIPPED)]
    parts = "\n".join(lines).split('ratchet sql "SELECT query, document_id', 1)
    assert len(parts) == 2, "the README no longer shows the pair with ratchet sql"
    before, after = parts[0], 'ratchet sql "SELECT query, document_id' + parts[1]
    environment = "set -eu\n"

    run(stack, environment + before)
    began = time.monotonic()
    while True:
        rows = stack.sql("SELECT document_id, label, kind, events FROM pairs WHERE query_id = 'q-1'")
        if rows:
            break
        assert time.monotonic() - began < 3.0, "the pair was not visible within 3 s"
    assert {"document_id": "card-arrival", "label": 1, "kind": "click"}.items() <= rows[0].items()
    assert "q-1" in str(rows[0]["events"])

    addresses = next(line for line in lines if line.startswith("eval "))
    refused, mended = after.split("ratchet rejected list", 1)
    run(stack, environment + addresses + "\n" + refused)
    wait_for_rows(stack, "SELECT entry_id FROM rejected WHERE event_id = 'f-1'")
    told = run(stack, environment + addresses + "\nratchet rejected list" + mended)
    assert "replayed as feedback.given f-1" in told
    wait_for_rows(stack, "SELECT 1 FROM events WHERE event_id = 'f-1'")
    wait_for_rows(stack, "SELECT query_id FROM pairs WHERE query_id = 'q-2' AND document_id = 'pin-change'")
    old = wait_for_rows(
        stack, "SELECT toString(asked_at) AS at FROM episodes WHERE query_id = 'old-1' AND clicks = 1"
    )
    assert old[0]["at"].startswith("2024-03-01 09:00:00")


def test_the_python_client_as_the_readme_shows_it(stack: LiveStack) -> None:
    (program,) = blocks(OWN_DATA, "python")
    done = subprocess.run(
        ["python", "-c", program],
        cwd=stack.directory,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("1.0.0 ['refund'")
    wait_for_rows(stack, "SELECT 1 FROM pairs WHERE query = 'how do I get my money back' AND label = 1")


def run(stack: LiveStack, script: str) -> str:
    """Run a shell script in the stack's directory; it must succeed."""
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=stack.directory,
        env=stack.environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def wait_for_rows(stack: LiveStack, query: str) -> list[dict[str, str]]:
    """Rows, as soon as there are some."""
    deadline = time.monotonic() + 10
    while not (rows := stack.sql(query)):
        assert time.monotonic() < deadline, f"no rows within 10 s: {query}"
    return rows
