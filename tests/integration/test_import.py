"""`ratchet import` into a real broker: killed in the middle, it goes on, and every event is there once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import zstandard

from infra.kafka.log import KafkaLogReader, ensure_topics
from infra.settings import KafkaSettings
from schemas.codec import decode_event
from schemas.envelope import Event
from schemas.topics import INTERACTIONS, REJECTED
from tests.live_services import wait_for

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]
TENANT: Final = "im-port"
NUMBER: Final = 30_000
MAPPING: Final = """
id = "row"
time = { column = "at", format = "s" }
[[event]]
type = "query.asked"
data = { query_id = "query", text = "text" }
"""


async def events_of(bootstrap: str, topic: str) -> list[Event]:
    reader = KafkaLogReader(bootstrap)
    found = [one async for batch in reader.read(topic, await reader.end_offsets(topic)) for one in batch]
    return [decode_event(one.value) for one in found if one.key.startswith(f"{TENANT}/".encode())]


async def test_killed_in_the_middle_it_goes_on(broker: str, tmp_path: Path) -> None:
    await ensure_topics(KafkaSettings(bootstrap=broker))
    (tmp_path / "ratchet.toml").write_text(
        f'[kafka]\nbootstrap = "{broker}"\n[tenants.{TENANT}]\nkey = "k"\n'
    )
    (tmp_path / "mapping.toml").write_text(MAPPING)
    rows = [f'r{n},q{n},"text {n}",{1_700_000_000 + n}' for n in range(NUMBER)]
    rows.insert(NUMBER // 2, "bad row")
    rows.append(rows[0])
    path = tmp_path / "old.csv.zst"
    path.write_bytes(zstandard.compress("\n".join(["row,query,text,at", *rows]).encode()))
    errors = tmp_path / "errors.jsonl"
    command = [sys.executable, "-P", "-m", "api.cli", "-C", str(tmp_path), "import", "csv", str(path)]
    command += ["--mapping", str(tmp_path / "mapping.toml"), "--tenant", TENANT, "--no-wait"]
    command += ["--errors", str(errors)]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    places = tmp_path / "var" / "imports"
    try:
        wait_for("a first place", lambda: first.poll() is not None or bool(list(places.glob("*.json"))))
        assert first.poll() is None
    finally:
        os.kill(first.pid, signal.SIGKILL)
        first.wait(10)
    before = await events_of(broker, INTERACTIONS)
    assert 0 < len(before) < NUMBER

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == f"{NUMBER + 1:,} events imported, 1 bad (kept in `rejected`)\n", done.stderr
    assert done.returncode == 1
    assert "going on after line" in done.stderr
    assert not list(places.glob("*.json"))
    (error,) = map(json.loads, errors.read_text().splitlines())
    assert (error["line"], error["reason"]) == (NUMBER // 2 + 2, "invalid_value")

    after = await events_of(broker, INTERACTIONS)
    identities = {(event.identity, event.contenthash) for event in after}
    assert {event.id for event in after} == {f"r{n}:query.asked" for n in range(NUMBER)}
    assert len(identities) == NUMBER
    # the batch that was under way may be there twice, and what came before it is not sent again
    assert len(after) <= NUMBER + 1 + 2 * 1_000
    assert len(await events_of(broker, REJECTED)) == 1
