"""One import: units → events → the log, with what became of each line, and the place to go on from."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import IO, Final

import msgspec
from rich.console import Console
from rich.text import Text

from api.cli.import_files import Unit, Unreadable
from api.cli.import_progress import ImportProgress
from api.cli.import_state import Progress
from ingest.admission import Admission, Rejection
from ingest.formats.items import Item, Undecoded
from ingest.formats.pieces import Format
from ingest.formats.registry import CLOUDEVENTS, FORMAT_HEADER, FORMATS
from ingest.intake import Intake, Outcome, Receipt
from ingest.settings import IngestSettings
from ingest.strict_json import MAX_NESTING, nested_deeper, refuse_nesting
from schemas.errors import Rejectable, Retryable

FILE_DOOR: Final = "file"
_BATCH_UNITS: Final = 1_000
_BATCH_BYTES: Final = 4_000_000
#: While the log is away or a topic is closed, a batch is tried again for so long.
_PATIENCE_S: Final = 120.0
#: Bad lines that are printed one by one.
_SHOWN: Final = 1_000


def cut_batches(units: Iterator[Unit]) -> Iterator[list[Unit]]:
    """Units in batches, by number and bytes. What came before reading ended with Unreadable goes first."""
    batch: list[Unit] = []
    weight_bytes = 0
    try:
        for unit in units:
            if batch and (len(batch) >= _BATCH_UNITS or weight_bytes + len(unit.content) > _BATCH_BYTES):
                yield batch
                batch, weight_bytes = [], 0
            batch.append(unit)
            weight_bytes += len(unit.content)
    except Unreadable:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def items_of(format: Format, unit: Unit) -> list[Item]:
    """The events of a unit. Never raises for any bytes."""
    if unit.why is not None:
        return [Undecoded(unit.content, unit.why)]
    if format is CLOUDEVENTS and unit.content.startswith(b"{"):
        return [unit.content]
    try:
        if nested_deeper(unit.content, MAX_NESTING):
            raise refuse_nesting()
        return format.decode(unit.content)
    except Rejectable as why:
        return [Undecoded(unit.content, why)]


class BadLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of the file of errors."""

    line: int
    reason: str
    message: str
    field: str = ""
    id: str = ""
    source: str = ""


class Importing:
    """One import and its counts. `good` and `bad` count events, `ignored` lines that say nothing to us."""

    def __init__(
        self,
        format: Format,
        tenant: str,
        settings: IngestSettings,
        console: Console,
        *,
        errors: IO[bytes] | None = None,
        now: Callable[[], dt.datetime],
    ) -> None:
        self._format = format
        self._tenant = tenant
        self._settings = settings
        self._console = console
        self._errors = errors
        self._now = now
        self._last = dt.datetime.min.replace(tzinfo=dt.UTC)
        self._printed = 0
        self.good = 0
        self.bad = 0
        self.ignored = 0

    def go_on(self, progress: Progress) -> None:
        """Begin with the counts of what was taken before."""
        found = progress.found
        self.good, self.bad, self.ignored = found.good, found.bad, found.ignored

    def check(self, batches: Iterator[Sequence[Unit]], shown: ImportProgress) -> None:
        """Admit everything and write nothing. Raises Unreadable."""
        admission = Admission(self._settings)
        for batch in batches:
            for unit in batch:
                items = items_of(self._format, unit)
                self.ignored += not items
                for item in items:
                    self._note(unit, self._try(admission, item))
            shown.note_taken(len(batch))

    def _try(self, admission: Admission, item: Item) -> Outcome:
        if isinstance(item, Undecoded):
            why = item.why
            return Outcome(0, "", "", "rejected", why.reason, why.field, why.message)
        one = admission.admit(
            item, tenant=self._tenant, door=FILE_DOOR, received=self._now(), timetrusted=True
        )
        if isinstance(one, Rejection):
            return Outcome(0, one.id, one.source, "rejected", one.reason, one.field, one.message)
        return Outcome(0, one.id, one.source, "accepted")

    async def run(
        self,
        batches: Iterator[Sequence[Unit]],
        intake: Intake,
        progress: Progress,
        shown: ImportProgress,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take every batch in. Raises Retryable if the log confirms nothing any more, Unreadable, Fatal."""
        for batch in batches:
            made = [items_of(self._format, unit) for unit in batch]
            items = [item for items in made for item in items]
            receipt = await self._take(intake, batch, items, pause, clock)
            owners = (unit for unit, items in zip(batch, made, strict=True) for _ in items)
            for unit, outcome in zip(owners, receipt.results, strict=True):
                self._note(unit, outcome)
            self.ignored += sum(not items for items in made)
            progress.advance(batch, good=self.good, bad=self.bad, ignored=self.ignored)
            shown.note_taken(len(batch))

    async def _take(
        self,
        intake: Intake,
        batch: Sequence[Unit],
        items: Sequence[Item],
        pause: Callable[[float], Awaitable[None]],
        clock: Callable[[], float],
    ) -> Receipt:
        # a batch is received after the one before it, whatever the clock does: of two texts of a document
        # the later one in the file is current
        received = max(self._now(), self._last)
        self._last = received + dt.timedelta(microseconds=len(items))
        name = self._format.name if self._format.name in FORMATS else CLOUDEVENTS.name
        until_s = clock() + _PATIENCE_S
        while True:
            receipt = await intake.take(
                items,
                tenant=self._tenant,
                door=FILE_DOOR,
                received=received,
                headers={"content-type": "application/json", "path": "import", FORMAT_HEADER: name},
                timetrusted=True,
            )
            if not receipt.unconfirmed:
                return receipt
            if clock() > until_s:
                raise Retryable(
                    f"the log has confirmed nothing for {_PATIENCE_S:.0f} s, at line {batch[0].number}; all "
                    "before it is imported: run the same import again when `ratchet status` is healthy, and "
                    "it goes on from there"
                )
            await pause(receipt.retry_after_s or 1.0)

    def _note(self, unit: Unit, outcome: Outcome) -> None:
        if outcome.status == "accepted":
            self.good += 1
            return
        self.bad += 1
        field = self._format.field_of(outcome.field)
        if self._errors is not None:
            line = BadLine(unit.number, outcome.reason, outcome.message, field, outcome.id, outcome.source)
            self._errors.write(msgspec.json.encode(line) + b"\n")
        self._printed += 1
        if self._printed <= _SHOWN:
            where = f" at {field}" if field else ""
            text = Text.assemble(
                (f"line {unit.number}", "red"), f": {outcome.reason}{where}: {outcome.message}"
            )
            self._console.print(text, soft_wrap=True)
        elif self._printed == _SHOWN + 1:
            self._console.print("… and more bad lines; --errors FILE names all of them", soft_wrap=True)

    def summary(self, *, dry_run: bool) -> str:
        """The counts, in one line."""
        ignored = f"; {self.ignored:,} lines say nothing to us" if self.ignored else ""
        if dry_run:
            return f"{self.good:,} events are good, {self.bad:,} bad{ignored}; nothing was written"
        kept = f", {self.bad:,} bad (kept in `rejected`)" if self.bad else ""
        return f"{self.good:,} event{'' if self.good == 1 else 's'} imported{kept}{ignored}"
