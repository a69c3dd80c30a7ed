"""One running program, its output and its end; no policy (that is ``supervisor``'s)."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from infra.local.logfile import LogFile

_CHUNK_BYTES = 64 * 1024


class RunningProcess:
    """A program in a session of its own that the kernel kills when this process dies.

    Must be made in the main thread, inside a running event loop. stdout and stderr go to ``log``. Raises
    OSError if the system has no process, pipe or memory left; a program that does not exist is an exit with
    status 127.
    """

    def __init__(self, argv: tuple[str, ...], env: Mapping[str, str], cwd: Path, log: LogFile) -> None:
        wrapper = (sys.executable, "-P", "-m", "infra.local.child", str(os.getpid()), "--")
        self._log = log
        self._popen = subprocess.Popen(
            [*wrapper, *argv],
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.pid = self._popen.pid
        loop = asyncio.get_running_loop()
        assert self._popen.stdout is not None
        self._output = self._popen.stdout
        os.set_blocking(self._output.fileno(), False)
        loop.add_reader(self._output.fileno(), self._read_output)
        self._exit: asyncio.Future[int] = loop.create_future()
        self._pidfd = os.pidfd_open(self.pid)
        loop.add_reader(self._pidfd, self._reap)

    @property
    def alive(self) -> bool:
        """Whether it has not ended yet."""
        return not self._exit.done()

    async def wait(self) -> int:
        """The exit status, or minus the signal that killed it. May be awaited by many, and cancelled."""
        return await asyncio.shield(self._exit)

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL after ``timeout_s``; its children that are still there are killed with it."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self.wait(), timeout_s)
        except TimeoutError:
            self._signal(signal.SIGKILL)
            await self.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            self._popen.send_signal(number)

    def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        # Before the pid is reaped: until then nobody else can have the group's number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status = self._popen.wait()
        while self._read_output():
            continue
        if not self._output.closed:
            loop.remove_reader(self._output.fileno())
            self._output.close()
        self._exit.set_result(status)

    def _read_output(self) -> bool:
        """Move what is there into the log; False when there is nothing more for now, or ever."""
        if self._output.closed:
            return False
        try:
            data = os.read(self._output.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return False
        if data:
            self._log.write(data)
            return True
        asyncio.get_running_loop().remove_reader(self._output.fileno())
        self._output.close()
        return False


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"was killed by signal {-status}"
