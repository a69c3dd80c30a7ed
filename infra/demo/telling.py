"""Telling what happens: a bar and lines on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

#: Without a terminal, progress is a line each so many seconds.
_PLAIN_S: Final = 15.0


class Bar:
    """The progress of one phase."""

    def __init__(self, console: Console, progress: Progress | None, title: str, total: int | None) -> None:
        self._console = console
        self._progress = progress
        self._title = title
        self._total = total
        self._started = self._told = time.monotonic()
        self._task = None if progress is None else progress.add_task(title, total=total, note="")

    def show(self, done: int, note: str) -> None:
        """Where it stands, and the numbers that matter."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=escape(note))
            return
        now = time.monotonic()
        if now - self._told >= _PLAIN_S:
            self._told = now
            of = f"/{self._total:,}" if self._total else ""
            count = f"{done:,}{of} · " if done or self._total else ""
            self._console.print(f"  {now - self._started:4.0f} s  {count}{note}", markup=False)


class Teller:
    """Lines and bars on one console; what phases took, by name, in `seconds`."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._live: Progress | None = None

    def say(self, text: str, style: str = "") -> None:
        """A line that stays."""
        console = self.console if self._live is None else self._live.console
        if console.is_terminal:
            console.print(Padding.indent(Text(text, style=style), 2))
        else:
            console.print(f"  {text}", markup=False, soft_wrap=True)

    @contextlib.contextmanager
    def phase(self, name: str, title: str, what: str, total: int | None = None) -> Iterator[Bar]:
        """A phase: its title and what it is about, then its bar; its time is added to `seconds[name]`."""
        self.console.print(f"\n[bold]{escape(title)}[/] [dim]{escape(what)}[/]")
        started = time.monotonic()
        try:
            if self.console.is_terminal:
                with _progress(self.console, total) as self._live:
                    yield Bar(self.console, self._live, title, total)
            else:
                yield Bar(self.console, None, title, total)
        finally:
            self._live = None
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started


def _progress(console: Console, total: int | None) -> Progress:
    counted = (BarColumn(bar_width=20), MofNCompleteColumn()) if total else (SpinnerColumn(),)
    return Progress(
        TextColumn(" "), *counted, TimeElapsedColumn(), TextColumn("{task.fields[note]}"),
        console=console, transient=True,
    )  # fmt: skip
