"""The scratch stack as something that can be hurt: pids, signals, readiness."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec
import psutil

from infra.chaos.scene import ChaosError, Scene
from infra.local import stack
from infra.local.control import StackEvent
from infra.local.leftovers import find_leftovers, start_time_s
from infra.local.readiness import is_ready
from infra.local.spec import ProcessSpec, Ready, StackError, StackFiles

_POLL_S: Final = 0.05
#: Longer than any start takes on a busy machine.
BACK_WITHIN_S: Final = 180.0
_UP_TRIES: Final = 3
#: A worker finishes the batch in hand first, for which its store may have to come back.
_END_S: Final = 120.0


class Body:
    """The stack of a scene, and the worker beside it. Everything runs in the loop's thread but `up`."""

    def __init__(self, scene: Scene, tell: Callable[[str], None], second_log: Path) -> None:
        self.scene = scene
        self._tell = tell
        self._second_log = second_log
        self.files = StackFiles(scene.stack.directory)
        self._second: subprocess.Popen[bytes] | None = None

    # --- all of it

    async def up(self) -> None:
        """Start the stack, or start it again after its supervisor was killed; return when all is ready."""

        def show(event: StackEvent) -> None:
            if event.text.startswith("ended what"):
                self._tell(event.text)

        for attempt in range(1, _UP_TRIES + 1):
            try:
                await asyncio.to_thread(stack.up, self.scene.stack, show, tied=True)
            except StackError as error:
                if attempt == _UP_TRIES:
                    raise
                self._tell(f"`up` failed and is tried again: {error}")
            else:
                return

    async def down(self) -> None:
        """Stop everything in order."""
        await self.stop_second()
        await asyncio.to_thread(stack.down, self.files.directory)

    def orphans(self) -> list[psutil.Process]:
        """Processes of the stack that are no descendants of a living supervisor."""
        supervisor = self.supervisor_pid()
        try:
            ours = {child.pid for child in psutil.Process(supervisor or 0).children(recursive=True)}
        except psutil.Error:
            ours = set()
        found = find_leftovers(self.files.directory, self.files.pids)
        return [process for process in found if process.pid not in ours | {supervisor}]

    # --- one process

    def pid(self, name: str) -> int | None:
        """Of a process of the stack, while it lives."""
        try:
            recorded = msgspec.json.decode(self.files.pids.read_bytes(), type=dict[str, tuple[int, float]])
        except (OSError, msgspec.DecodeError):
            return None
        pid, started_s = recorded.get(name, (0, 0.0))
        return pid if pid and start_time_s(pid) == started_s and _runs(pid) else None

    def supervisor_pid(self) -> int | None:
        """Of the supervisor, while it lives."""
        try:
            pid = int(self.files.lock.read_text() or 0)
        except (OSError, ValueError):
            return None
        try:
            return pid if "infra.local.supervisor" in psutil.Process(pid).cmdline() else None
        except psutil.Error:
            return None

    async def living_pid(self, name: str) -> int:
        """As `pid`, waiting for one that is being started."""
        pid: int | None = None

        def lives() -> bool:
            nonlocal pid
            pid = self.supervisor_pid() if name == "supervisor" else self.pid(name)
            return pid is not None

        await self._until(lives, f"{name} to live")
        assert pid is not None
        return pid

    async def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process that lives; its pid."""
        while True:
            pid = await self.living_pid(name)
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
            return pid

    async def until_back(self, name: str, old_pid: int | None) -> None:
        """Return when it runs under another pid than `old_pid` and says that it is ready."""
        ready = self.scene.process(name).ready
        await self.until_ready(ready, lambda: self.pid(name) not in (None, old_pid), name)

    async def until_ready(self, ready: Ready | None, also: Callable[[], bool], what: str) -> None:
        """Return when `also` holds and the question is answered with yes."""
        deadline = time.monotonic() + BACK_WITHIN_S
        while not (also() and (ready is None or await is_ready(ready, os.environ, self.files.directory))):
            if time.monotonic() > deadline:
                raise ChaosError(f"{what} is not back after {BACK_WITHIN_S:g} s: see {self.files.logs}")
            await asyncio.sleep(_POLL_S)

    async def until_healthy(self) -> None:
        """Return when every process is ready."""
        for process in self.scene.stack.processes:
            await self.until_back(process.name, None)
        if self._second is not None:
            await self._until_second_ready()

    async def _until(self, condition: Callable[[], bool], what: str) -> None:
        await self.until_ready(None, condition, what)

    # --- the worker beside it

    @property
    def has_second(self) -> bool:
        """Whether a second worker runs."""
        return self._second is not None

    async def start_second(self) -> None:
        """Start it; return when it has partitions."""
        self._spawn_second()
        await self._until_second_ready()

    def _spawn_second(self) -> None:
        spec: ProcessSpec = self.scene.second_worker
        # the kernel ends it when this process ends, however that comes
        child = (sys.executable, "-P", "-m", "infra.local.child", str(os.getpid()), "--")
        with self._second_log.open("ab") as log:
            self._second = subprocess.Popen(
                [*child, *spec.argv],
                env={**os.environ, **spec.env},
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    async def _until_second_ready(self) -> None:
        """A worker may end by itself, to be started again: this one by us."""

        def runs() -> bool:
            if self._second is not None and self._second.poll() is not None:
                self._spawn_second()
            return True

        await self.until_ready(self.scene.second_worker.ready, runs, "the second worker")

    async def stop_second(self) -> None:
        """Stop it in order: it commits, and leaves the group."""
        if self._second is not None:
            self._second.terminate()
            await self._end_second()

    async def kill_second(self) -> None:
        """By kill -9."""
        if self._second is not None:
            self._second.kill()
            await self._end_second()

    async def _end_second(self) -> None:
        second, self._second = self._second, None
        assert second is not None
        try:
            await asyncio.to_thread(second.wait, _END_S)
        except subprocess.TimeoutExpired:
            second.kill()
            await asyncio.to_thread(second.wait)
            raise ChaosError(f"the second worker did not end within {_END_S:g} s of SIGTERM") from None


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
