"""Made the golden directory of release 0.1: `python -m tests.golden.make_release_0_1` at the project's root.

`release_0_1/backup` is a backup of the golden log of schema version 1, `release_0_1/version.json` what that
release wrote into a data directory, `release_0_1/rows.json` the rows of each table that follow from the log.
It is made once and never again; today's code has to restore and upgrade it for ever.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import zlib
from pathlib import Path
from typing import Final

from api.cli.upgrade import present_version
from infra.backup.save import finish, make_directory, save_log
from infra.local.data_version import write_version
from schemas.codec import decode_event
from schemas.registry import BY_NAME
from schemas.topics import TOPICS, record_key
from streams.memory import MemoryLog, MemoryStore
from streams.memory_beside import MemoryStoreBeside
from streams.rebuild import keep_as_of
from streams.settings import StreamSettings
from tests.golden.make_events_v1 import EVENTS

RELEASE: Final = Path(__file__).parent / "release_0_1"


def golden_log() -> MemoryLog:
    """The golden log, spread over the partitions of its topics."""
    log = MemoryLog()
    partitions = {topic.name: topic.partitions for topic in TOPICS}
    for line in EVENTS.read_bytes().splitlines():
        event = decode_event(line)
        topic = BY_NAME[event.type].topic
        key = record_key(event.tenant, event.subject)
        log.put(topic, line, key=key, partition=zlib.crc32(key) % partitions[topic])
    return log


async def make() -> None:
    """Write everything."""
    log = golden_log()
    held = {topic.name: await log.end_offsets(topic.name) for topic in TOPICS}
    ends = {t.name: {p: held[t.name].get(p, 0) for p in range(t.partitions)} for t in TOPICS}
    make_directory(RELEASE / "backup")
    version = present_version()
    finish(
        RELEASE / "backup",
        made_at=dt.datetime(2026, 3, 3, tzinfo=dt.UTC),
        versions={"ratchet": version.ratchet, "fold": str(version.fold), "migration": str(version.migration)},
        log=await save_log(log, ends, RELEASE / "backup", lambda *_: None),
        committed=ends,
        files=[],
        with_secrets=False,
    )
    write_version(RELEASE, version)
    kept = await keep_as_of(log, MemoryStoreBeside(MemoryStore()), ends, StreamSettings())
    rows = {table: digest.rows for table, digest in kept.beside.items()}
    (RELEASE / "rows.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    asyncio.run(make())
