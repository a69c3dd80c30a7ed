"""A peer's server, killed and started again on the same data, and the SQLite file that it writes."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path

import httpx
import psutil

from tests.bench.peers.system import NotReadable
from tests.bench.stack import BenchError, clean_environment, wait_for

_START_S = 240.0
_STOP_S = 20.0


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def family(pids: Iterable[int]) -> list[psutil.Process]:
    """These processes and all that descend from them, parents first."""
    found: dict[int, psutil.Process] = {}
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(pid)
            found.update({one.pid: one for one in (parent, *parent.children(recursive=True))})
    return list(found.values())


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """SIGKILL, one right after the other; those that are gone already are left."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


class Server:
    """One server program, with its children in a session of its own.

    `health`: a URL that answers 200 when it is ready.
    """

    def __init__(
        self, command: Sequence[str], directory: Path, environment: Mapping[str, str], health: str
    ) -> None:
        self._command = list(command)
        self._directory = directory
        self._environment = clean_environment() | dict(environment)
        self._health = health
        self._log = directory / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._armed: list[psutil.Process] = []

    def start(self) -> None:
        """Start it and wait until it is ready. Raises BenchError."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._process = process
        wait_for(
            f"the start of {self._command[0]} (its log: {self._log})",
            lambda: process.poll() is not None or self._ready(),
            _START_S,
            every_s=0.2,
        )
        if process.poll() is not None:
            raise BenchError(f"{self._command[0]} ended: {self._log.read_text(errors='replace')[-2000:]}")

    def _ready(self) -> bool:
        try:
            return httpx.get(self._health, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def arm(self) -> None:
        """See System."""
        assert self._process is not None
        self._armed = family([self._process.pid])

    def kill(self) -> None:
        """See System. Children that were born since `arm` are killed with the session."""
        assert self._process is not None
        kill_all(self._armed)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def gone(self) -> None:
        """Wait until nothing of it is left. Raises BenchError."""
        assert self._process is not None
        self._process.wait(_STOP_S)
        _, alive = psutil.wait_procs(self._armed, _STOP_S)
        if alive:
            raise BenchError(f"killed processes of {self._command[0]} still live: {alive}")
        self._process = None

    def stop(self) -> None:
        """Stop it in order, and by force if that takes long; nothing happens if it does not run."""
        if self._process is None:
            return
        self.arm()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_S)
        self.kill()
        self.gone()


def read_sqlite(path: Path, statement: str, *values: str) -> list[list[str]]:
    """The rows of a database that a server has open, as texts. Raises NotReadable."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)) as database:
            return [[str(value) for value in row] for row in database.execute(statement, values)]
    except sqlite3.OperationalError as error:
        raise NotReadable(f"{path}: {error}") from error
