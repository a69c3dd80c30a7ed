"""How far an import is and how fast: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

_LINE_EVERY_S: Final = 5.0


class ImportProgress:
    """Units that were taken, their rate, and how much is left by the share of the file that was read.

    A context manager. `total`: bytes of the file, or rows; None if nobody knows. Nothing is shown of an
    import that ends in a moment.
    """

    def __init__(
        self,
        console: Console,
        name: str,
        total: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._name = name
        self._total = total
        self._clock = clock
        self._since = self._shown = clock()
        self._first_read = 0
        self._read = 0
        self._taken = 0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=20),
                TextColumn("{task.fields[pace]}", markup=False),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(self._name, total=self._total, pace="")
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def expect(self, total: int) -> None:
        """There is so much in all."""
        self._total = total
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, total=total)

    def note_read(self, read: int) -> None:
        """So much of the file was read."""
        self._read = read

    def begin(self) -> None:
        """What was skipped until now is not part of the rate."""
        self._since, self._first_read = self._clock(), self._read

    def note_taken(self, number: int) -> None:
        """So many more units were taken."""
        self._taken += number
        now = self._clock()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._read, pace=self.pace())
        elif now - self._shown >= _LINE_EVERY_S:
            self._shown = now
            self._console.print(f"{self._name}: {self.pace()}", style="dim", markup=False, soft_wrap=True)

    def pace(self) -> str:
        """`120,000 · 21,034/s · 43 % · 18 s left`, as far as it is known."""
        parts = [f"{self._taken:,}"]
        seconds = self._clock() - self._since
        if seconds >= 0.5 and self._taken:
            parts.append(f"{self._taken / seconds:,.0f}/s")
        if self._total:
            parts.append(f"{min(1.0, self._read / self._total):.0%}".replace("%", " %"))
            advanced = self._read - self._first_read
            if seconds >= 0.5 and advanced > 0 and self._read < self._total:
                parts.append(f"{(self._total - self._read) * seconds / advanced:,.0f} s left")
        return " · ".join(parts)
