"""A real stack for one bench, in a directory of its own; and programs beside it. All end with the block."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import httpx
import msgspec

from api.cli.project import LOCAL_TENANT, Project
from infra.local import stack as local_stack
from infra.settings import ClickHouseSettings

OUTPUT: Final = Path("var/bench")
TENANT: Final = LOCAL_TENANT
_T = TypeVar("_T")
_START_S = 400.0


class BenchError(Exception):
    """A bench could not be run; the text says what happened and where to look."""


class Stack:
    """A running stack: its addresses, and its processes one by one."""

    def __init__(self, project: Project) -> None:
        settings = project.settings
        self.data = project.data
        self.api_url = f"http://{settings.api.host}:{settings.api.port}"
        self.search_url = f"http://{settings.search_http.host}:{settings.search_http.port}"
        self.streams_url = f"http://{settings.streams_http.host}:{settings.streams_http.port}"
        self.key = settings.tenants[TENANT].key
        self.bootstrap = settings.kafka.bootstrap
        self.clickhouse: ClickHouseSettings = settings.clickhouse

    def stop(self, process: str) -> None:
        """Stop one process in order; it stays stopped."""
        local_stack.stop(self.data, process)

    def start(self, process: str) -> None:
        """Start it again; returns when it is ready."""
        local_stack.start(self.data, process)

    def pids(self) -> dict[str, int]:
        """Pid by process, the supervisor among them."""
        status = local_stack.status(self.data)
        assert status.supervisor_pid is not None
        found = {process.name: process.pid for process in status.processes if process.pid is not None}
        return found | {"supervisor": status.supervisor_pid}

    def sql(self, statement: str) -> str:
        """The answer to a statement of the analysts' account, tab-separated. Raises httpx.HTTPStatusError."""
        store = self.clickhouse
        answer = httpx.post(
            store.url, content=statement, auth=(store.analyst_user, store.analyst_password), timeout=120
        )
        answer.raise_for_status()
        return answer.text.strip()


def clean_environment() -> dict[str, str]:
    """This process's environment without settings of ours: a bench never meets another stack."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RATCHET_")}


@contextmanager
def running_stack(name: str, *, learn: bool = False, settings: str = "") -> Iterator[Stack]:
    """A fresh stack, tied to this process: it is stopped in any case, and its directory removed.

    `settings`: its ratchet.toml. Raises BenchError if it does not start; its directory, with its logs, is
    left then.
    """
    OUTPUT.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix=f"run-{name}-", dir=OUTPUT)).resolve()
    (directory / "ratchet.toml").write_text(settings)
    command = [sys.executable, "-P", "-m", "api.cli", "-C", str(directory), "up", "--tied"]
    with (directory / "up.log").open("wb") as output:
        tied = subprocess.Popen(
            [*command, *([] if learn else ["--no-learn"])],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            env=clean_environment(),
        )
    assert tied.stdin is not None
    log = directory / "up.log"
    try:
        wait_for(
            f"the start of a stack in {directory}",
            lambda: "ready:" in log.read_text() or tied.poll() is not None,
            _START_S,
        )
        if tied.poll() is not None:
            raise BenchError(f"the stack in {directory} did not start: {log.read_text()[-2000:]}")
        yield Stack(Project(directory))
    finally:
        tied.stdin.close()
        tied.wait(120)
    shutil.rmtree(directory)


@contextmanager
def running_program(module: str, *arguments: str, ready: str = "ready") -> Iterator[subprocess.Popen[str]]:
    """`python -P -m module …`, which prints `ready` when it is; ended with the block."""
    program = subprocess.Popen(
        [sys.executable, "-P", "-m", module, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert program.stdout is not None
    try:
        line = program.stdout.readline().strip()
        if line != ready:
            raise BenchError(f"{module} did not start; it printed {line!r}, see standard error")
        yield program
    finally:
        program.terminate()
        try:
            program.wait(20)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()


def run_program(module: str, *arguments: str, into: type[_T]) -> _T:
    """Run `python -P -m module …` to its end; its output is JSON. Raises BenchError if it fails."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        stdout=subprocess.PIPE,
        env=clean_environment(),
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"{command_text(module, *arguments)} ended with {done.returncode}")
    return msgspec.json.decode(done.stdout, type=into)


def command_text(module: str, *arguments: str) -> str:
    """The command as somebody would type it, without keys and passwords."""
    secret = {"--key": "KEY", "--password": "PASSWORD"}
    before = ("", *arguments)
    hidden = [secret.get(option, value) for option, value in zip(before, arguments, strict=False)]
    return shlex.join(["python", "-P", "-m", module, *hidden])


def wait_for(what: str, happens: Callable[[], bool], limit_s: float, *, every_s: float = 0.05) -> float:
    """Poll until it happens; the clock (`time.perf_counter`) when it had. Raises BenchError."""
    deadline = time.perf_counter() + limit_s
    while not happens():
        if time.perf_counter() > deadline:
            raise BenchError(f"{what} did not happen within {limit_s:g} s")
        time.sleep(every_s)
    return time.perf_counter()


class InThread(threading.Thread):
    """A call in a thread whose error is raised by `done()`."""

    def __init__(self, call: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        """Call it."""
        try:
            self._call()
        except BaseException as error:
            self._error = error

    def done(self) -> None:
        """Wait for its end. Raises what it raised."""
        self.join()
        if self._error is not None:
            raise self._error


def cpu_seconds(pid: int) -> float:
    """CPU time so far of a living process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
