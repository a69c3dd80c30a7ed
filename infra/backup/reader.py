"""`LogReader` over a backup, and over a backup and the log that goes on behind it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, Self

from infra.backup.manifest import Manifest, check_files, read_manifest
from infra.backup.records import read_records
from streams.ports import LogReader, Message, Offsets

_BATCH: Final = 5_000


class BackupLogReader:
    """Reads what a backup holds of the log."""

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self._directory = directory
        self.manifest = manifest

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Raises Fatal if it is no whole backup, or a file has changed."""
        manifest = read_manifest(directory)
        check_files(directory, manifest)
        return cls(directory, manifest)

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Partition → next offset; no partitions of a topic that the backup does not have."""
        return self.manifest.ends().get(topic, {})

    async def read(
        self, topic: str, until: Offsets, since: Offsets | None = None
    ) -> AsyncIterator[list[Message]]:
        """Records from `since` up to `until`, as far as the backup has them. Raises Fatal."""
        for partition, file in sorted(self.manifest.log.get(topic, {}).items()):
            start, end = (since or {}).get(partition, 0), min(until.get(partition, 0), file.end)
            if start >= end:
                continue
            records = read_records(self._directory / file.file, topic, partition)
            wanted = (m for m in records if start <= m.offset < end)
            while batch := await asyncio.to_thread(list, itertools.islice(wanted, _BATCH)):
                yield batch


class BackupThenLog:
    """What a backup holds from there, all else from the log: for one that has forgotten its beginning."""

    def __init__(self, backup: BackupLogReader, log: LogReader) -> None:
        self._backup = backup
        self._log = log

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Of the log. Raises Retryable."""
        return await self._log.end_offsets(topic)

    async def read(
        self, topic: str, until: Offsets, since: Offsets | None = None
    ) -> AsyncIterator[list[Message]]:
        """Records from `since` up to `until`. Raises Retryable, and Fatal if neither has them."""
        start = since or {}
        async for batch in self._backup.read(topic, until, since):
            yield batch
        held = await self._backup.end_offsets(topic)
        behind = {p: max(start.get(p, 0), min(held.get(p, 0), end)) for p, end in until.items()}
        async for batch in self._log.read(topic, until, behind):
            yield batch
