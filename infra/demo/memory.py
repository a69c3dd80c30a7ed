"""The most memory that the stack and the demo ever took together."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psutil

_PAUSE_S: Final = 2.0


def proportional_bytes(pid: int) -> int:
    """Proportional set size of a process: shared pages count once over all; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


class MemoryWatch:
    """Samples the summed PSS of this process, the given ones, and all that they start."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        #: Name of the process → bytes, at the moment of the peak.
        self.at_peak: dict[str, int] = {}
        self._roots: set[int] = {os.getpid()}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def follow(self, pids: Iterable[int]) -> None:
        """Count these processes, their parent (the supervisor) and its children, too."""
        for pid in pids:
            try:
                parent = psutil.Process(pid).ppid()
            except psutil.Error:
                continue
            self._roots = self._roots | {pid, parent} - {0, 1}

    def sample(self) -> int:
        """The sum now."""
        total = 0
        by_name: dict[str, int] = {}
        for process in self._processes():
            name = _name_of(process)  # first: it may end while it is measured
            size = proportional_bytes(process.pid)
            total += size
            by_name[name] = by_name.get(name, 0) + size
        if total > self.peak_bytes:
            self.peak_bytes, self.at_peak = total, by_name
        return total

    def _processes(self) -> Iterator[psutil.Process]:
        seen: set[int] = set()
        for root in self._roots:
            try:
                process = psutil.Process(root)
                family = [process, *process.children(recursive=True)]
            except psutil.Error:
                continue
            for member in family:
                if member.pid not in seen:
                    seen.add(member.pid)
                    yield member

    def _run(self) -> None:
        while not self._stop.wait(_PAUSE_S):
            self.sample()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def _name_of(process: psutil.Process) -> str:
    """`learners.children` of `python -P -m learners.children …`, else the program's name."""
    try:
        command = process.cmdline()
    except psutil.Error:
        return "ended"
    if "-m" in command[:-1]:
        return command[command.index("-m") + 1]
    return Path(command[0]).name if command else "kernel"
