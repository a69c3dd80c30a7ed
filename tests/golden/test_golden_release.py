"""The golden directory of release 0.1: today's code reads its backup and knows what wrote it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from api.cli.upgrade import present_version
from infra.backup.manifest import read_manifest
from infra.backup.reader import BackupLogReader
from infra.local.data_version import read_version, refuse_newer
from schemas.errors import Fatal
from streams.memory import MemoryStore
from streams.memory_beside import MemoryStoreBeside
from streams.rebuild import keep_as_of
from streams.settings import StreamSettings
from tests.golden.make_release_0_1 import RELEASE, golden_log


def test_the_tables_of_the_release_follow_from_its_backup() -> None:
    backup = BackupLogReader.open(RELEASE / "backup")
    aside = MemoryStoreBeside(MemoryStore())
    kept = asyncio.run(keep_as_of(backup, aside, backup.manifest.ends(), StreamSettings()))
    expected = json.loads((RELEASE / "rows.json").read_text())
    assert {table: kept.beside[table].rows for table in expected} == expected


def test_the_backup_holds_the_golden_log_record_by_record() -> None:
    async def compare() -> int:
        backup, log, found = BackupLogReader.open(RELEASE / "backup"), golden_log(), 0
        for topic, ends in backup.manifest.ends().items():
            saved = [m async for batch in backup.read(topic, ends) for m in batch]
            assert saved == [m async for batch in log.read(topic, ends) for m in batch]
            found += len(saved)
        return found

    assert asyncio.run(compare()) == 82


def test_the_release_is_not_newer_than_today() -> None:
    found = read_version(RELEASE)
    assert found is not None
    refuse_newer(found, present_version(), RELEASE)


def test_what_is_no_whole_backup_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="make another"):
        read_manifest(tmp_path)
    manifest = (RELEASE / "backup" / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(manifest.replace('"format": 1', '"format": 2'))
    with pytest.raises(Fatal, match="restore with a newer one"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest.replace("log/documents-", "../documents-"))
    with pytest.raises(Fatal, match="outside the backup"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(manifest)
    with pytest.raises(Fatal, match="take another copy"):
        BackupLogReader.open(tmp_path)
