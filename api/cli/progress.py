"""Progress of what takes longer than a moment: on a terminal only, gone when it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def bytes_progress(console: Console) -> Progress:
    """A bar over the bytes of a file."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


def steps_progress(console: Console) -> Progress:
    """A line a step, with a number that grows."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        TextColumn("{task.completed:,.0f}"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


#: Between two lines where nobody watches a terminal.
_LINE_EVERY_S: Final = 5.0
Show = Callable[[str, int, int | None], None]


@contextmanager
def counted_steps(console: Console, clock: Callable[[], float] = time.monotonic) -> Iterator[Show]:
    """Gives a function for (step, done, all of them or None): how much, how fast, how long it will take.

    A line a step on a terminal, gone at the end; elsewhere a printed line every 5 s and at each step's end.
    """
    if not console.is_terminal:
        yield _Lines(console, clock).show
        return
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[text]}"),
        console=console,
        transient=True,
    )
    with progress:
        steps: dict[str, tuple[TaskID, float, int]] = {}

        def show(step: str, done: int, of: int | None) -> None:
            if step not in steps:
                steps[step] = (progress.add_task(step, total=of, text=""), clock(), done)
            task, since, first = steps[step]
            progress.update(task, completed=done, text=_pace(done, of, done - first, clock() - since))

        yield show


class _Lines:
    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console = console
        self._clock = clock
        self._step = ""
        self._since = self._last = 0.0
        self._first = 0

    def show(self, step: str, done: int, of: int | None) -> None:
        now = self._clock()
        if step != self._step:
            self._step, self._since, self._last, self._first = step, now, now, done
        if now - self._last >= _LINE_EVERY_S or (of is not None and done >= of):
            self._last = now
            pace = _pace(done, of, done - self._first, now - self._since)
            self._console.print(f"{step}: {pace}", style="dim")


def _pace(done: int, of: int | None, since_start: int, seconds: float) -> str:
    """`120,000 of 500,000 · 21,034/s · 18 s left`, as far as it is known."""
    text = f"{done:,}" if of is None else f"{done:,} of {of:,}"
    if seconds < 0.5 or since_start <= 0:
        return text
    rate = since_start / seconds
    text += f" · {rate:,.0f}/s"
    return text if of is None or done >= of else f"{text} · {(of - done) / rate:,.0f} s left"
