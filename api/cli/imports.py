"""`ratchet import`: old events from a file, times kept and believed."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterator, Sequence
from typing import IO, Final, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.text import Text

from api.cli.door import known_tenant, tenant_option
from api.cli.progress import bytes_progress
from api.cli.project import Project
from api.cli.store import VISIBLE_S
from api.settings import Settings

FILE_DOOR: Final = "file"
_BATCH_LINES: Final = 1_000
_BATCH_BYTES: Final = 4_000_000
_TRIES: Final = 8
_DOCUMENT_MARK: Final = b"ratchet.document."


class Line(NamedTuple):
    """A line of the file and its number."""

    number: int
    content: bytes


class _Subject(msgspec.Struct):
    document_id: str = ""


class _DocumentEvent(msgspec.Struct):
    data: _Subject = msgspec.field(default_factory=_Subject)


def cut_batches(lines: Iterator[Line]) -> Iterator[list[Line]]:
    """Lines in batches, blank ones left out; a batch names no document twice.

    The events of a batch are received at one time, and of a document the one received last is current.
    """
    batch: list[Line] = []
    weight_bytes = 0
    named: set[str] = set()
    for line in lines:
        if not line.content.strip():
            continue
        document_id = _document_of(line.content)
        full = len(batch) >= _BATCH_LINES or weight_bytes + len(line.content) > _BATCH_BYTES
        if batch and (full or document_id in named):
            yield batch
            batch, weight_bytes, named = [], 0, set()
        if document_id is not None:
            named.add(document_id)
        batch.append(line)
        weight_bytes += len(line.content)
    if batch:
        yield batch


def _document_of(content: bytes) -> str | None:
    if _DOCUMENT_MARK not in content:
        return None
    try:
        return msgspec.json.decode(content, type=_DocumentEvent).data.document_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


@click.command("import")
@click.argument("file", type=click.File("rb"), metavar="FILE.jsonl")
@tenant_option
@click.option("--dry-run", is_flag=True, help="Only say what is bad; nothing is written.")
@click.option("--no-wait", is_flag=True, help="Return when all is acknowledged, not when it is visible.")
@click.pass_obj
def import_events(project: Project, file: IO[bytes], tenant: str, dry_run: bool, no_wait: bool) -> None:
    """Load old events: CloudEvents in JSON, one a line; their times are kept and believed.

    Importing again counts nothing twice: an event is known by its source and id. A bad line is printed with
    its number and reason, and kept in `rejected`. Exit code 1 if a line is bad; the others are imported.
    """
    console = Console(stderr=True, highlight=False)
    importing = Importing(project, known_tenant(project.settings, tenant), console)
    with bytes_progress(console) as progress:
        size = os.fstat(file.fileno()).st_size if file.seekable() else None
        task = progress.add_task(os.path.basename(file.name), total=size)  # noqa: PTH119 - '<stdin>', too

        def lines() -> Iterator[Line]:
            for number, content in enumerate(file, 1):
                progress.advance(task, len(content))
                yield Line(number, content.strip().removeprefix(b"\xef\xbb\xbf"))

        importing.console = progress.console
        batches = cut_batches(lines())
        if dry_run:
            importing.check(batches)
        else:
            asyncio.run(importing.run(batches))
    behind = 0 if dry_run or no_wait else wait_folded(project.settings)
    click.echo(importing.summary(dry_run))
    if behind:
        console.print(
            f"[yellow]{behind:,} events are acknowledged and not in ClickHouse yet: `ratchet status` shows "
            "how far the worker is behind[/]"
        )
    sys.exit(1 if importing.bad else 0)


def wait_folded(settings: Settings) -> int:
    """Wait a few seconds for the worker to get through what is in the log now; how much is still to come."""
    from infra.kafka.log import GroupProgress

    async def wait() -> int:
        deadline_s = time.monotonic() + VISIBLE_S
        async with GroupProgress(settings.kafka.bootstrap, settings.streams.group) as group:
            progress = await group.read()
            ends = {(topic, p): one.end for topic, ps in progress.items() for p, one in ps.items()}
            while True:
                behind = sum(max(0, end - progress[topic][p].committed) for (topic, p), end in ends.items())
                if not behind or time.monotonic() > deadline_s:
                    return behind
                await asyncio.sleep(0.2)
                progress = await group.read()

    return asyncio.run(wait())


class Importing:
    """One import and its counts."""

    def __init__(self, project: Project, tenant: str, console: Console) -> None:
        self._settings = project.settings
        self._tenant = tenant
        self.console = console
        self.good = 0
        self.bad = 0

    def check(self, batches: Iterator[Sequence[Line]]) -> None:
        """Admit every line and write nothing."""
        from api.processes.identity import now
        from ingest.admission import Admission, Rejection

        admission = Admission(self._settings.ingest)
        for batch in batches:
            for line in batch:
                admitted = admission.admit(
                    line.content, tenant=self._tenant, door=FILE_DOOR, received=now(), timetrusted=True
                )
                if isinstance(admitted, Rejection):
                    self._complain(line.number, admitted.reason, admitted.field, admitted.message)
                else:
                    self.good += 1

    async def run(self, batches: Iterator[Sequence[Line]]) -> None:
        """Take every batch in. Raises Retryable if the log confirms nothing any more."""
        from api.processes.identity import code_version
        from infra.kafka.producer import KafkaEventLog
        from ingest.intake import Intake

        ingest = self._settings.ingest
        async with KafkaEventLog(
            self._settings.kafka.bootstrap,
            deadline_s=ingest.deadline_s,
            max_in_flight_bytes=ingest.max_in_flight_bytes,
            client_id="ratchet-import",
        ) as log:
            intake = Intake(log, ingest, code_version=code_version())
            for batch in batches:
                await self._take(intake, batch)

    async def _take(self, intake: object, batch: Sequence[Line]) -> None:
        from api.processes.identity import now
        from ingest.intake import Intake
        from schemas.errors import Retryable

        assert isinstance(intake, Intake)
        received = now()
        for _ in range(_TRIES):
            receipt = await intake.take(
                [line.content for line in batch],
                tenant=self._tenant,
                door=FILE_DOOR,
                received=received,
                headers={"content-type": "application/cloudevents+json", "path": "import"},
                timetrusted=True,
            )
            if not receipt.unconfirmed:
                break
            await asyncio.sleep(receipt.retry_after_s or 1.0)
        else:
            raise Retryable(
                f"the log confirms nothing after {_TRIES} tries, at line {batch[0].number}; all before it is "
                "imported: run the same import again when `ratchet status` is healthy"
            )
        self.good += receipt.accepted
        for result in receipt.results:
            if result.status == "rejected":
                number = batch[result.index].number
                self._complain(number, result.reason, result.field, result.message)

    def _complain(self, number: int, reason: str, field: str, message: str) -> None:
        self.bad += 1
        where = f" at {field}" if field else ""
        self.console.print(
            Text.assemble((f"line {number}", "red"), f": {reason}{where}: {message}"), soft_wrap=True
        )

    def summary(self, dry_run: bool) -> str:
        """The counts, in one line."""
        if dry_run:
            return f"{self.good:,} events are good, {self.bad:,} bad; nothing was written"
        kept = f", {self.bad:,} bad (kept in `rejected`)" if self.bad else ""
        return f"{self.good:,} event{'' if self.good == 1 else 's'} imported{kept}"
