"""Start, look at and stop a stack: what ``ratchet up``, ``status`` and ``down`` do.

    up(spec, on_event)            start all, in order; return when all are ready
    status(directory)             what runs, since when, is it ready
    down(directory, on_event)     stop all, in reverse order
    stop, start, restart          one process of a running stack

A stack is known by its directory alone; calls may come from any process of the same user. Everything raises
``StackError`` with one sentence for the person who asked.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import msgspec

from infra.local.control import NoSupervisor, ProcessStatus, Request, StackEvent, StackStatus, ask
from infra.local.leftovers import end_leftovers, find_leftovers
from infra.local.spec import StackError, StackFiles, StackSpec, write_whole
from infra.local.tcp_ports import check_ports_free

OnEvent = Callable[[StackEvent], None]

_SUPERVISOR_START_S = 20.0
_SUPERVISOR_END_S = 10.0
_POLL_S = 0.02


def ignore(_: StackEvent) -> None:
    """For callers that want no progress."""


class RunningStack:
    """A stack whose processes are all ready. As a context manager it is stopped at the end of the block."""

    def __init__(self, directory: Path, tie: int | None) -> None:
        self.directory = directory
        self._tie = tie

    def status(self) -> StackStatus:
        """As the function of that name."""
        return status(self.directory)

    def down(self, on_event: OnEvent = ignore) -> None:
        """As the function of that name."""
        down(self.directory, on_event)
        if self._tie is not None:
            os.close(self._tie)
            self._tie = None

    def __enter__(self) -> "RunningStack":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()


def up(spec: StackSpec, on_event: OnEvent = ignore, *, tied: bool = False) -> RunningStack:
    """Start the stack in the background and return when each of its processes is ready.

    ``tied``: the stack is stopped in order when the calling process ends, however it ends (for demo, tests,
    bench); otherwise it stays until ``down``. What a killed supervisor left behind is ended first. Raises
    StackError, with nothing left running, if the specification makes no sense, a stack runs here already, the
    disk is too full, a port is taken, or a process fails. An interruption (Ctrl-C) stops what was started.
    """
    spec.start_order()
    files = StackFiles(spec.directory)
    files.make()
    lock = os.open(files.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _take(lock, files)
        _end_what_is_left(files, on_event)
        _check_space(files.directory, spec.min_free_bytes)
        check_ports_free(spec.ports)
        try:
            write_whole(
                files.spec, msgspec.json.encode(msgspec.structs.replace(spec, directory=str(files.directory)))
            )
        except OSError as error:
            raise StackError(f"cannot write {files.spec}: {error.strerror}") from error
        tie = _spawn_supervisor(files, lock, tied)
    finally:
        os.close(lock)  # the supervisor has it now, if it was started
    try:
        _ask_when_listening(files, Request("status"), ignore)
        ask(files, Request("wait"), on_event)
    except BaseException as error:
        _abandon(files, on_event, tie)
        if isinstance(error, NoSupervisor):
            raise StackError(f"the supervisor did not start: see {files.log_of('supervisor')}") from error
        raise
    return RunningStack(files.directory, tie)


def status(directory: Path) -> StackStatus:
    """What runs in ``directory``; without a supervisor every process that it had is ``stopped``."""
    files = StackFiles(directory)
    try:
        return ask(files, Request("status"), ignore)
    except NoSupervisor:
        return _status_without_supervisor(files)


def down(directory: Path, on_event: OnEvent = ignore) -> None:
    """Stop each process after all that depend on it: SIGTERM, and SIGKILL when its time is over; return when
    done.

    A stack that is only just being started is waited for and stopped. Without a supervisor, what one left
    behind is ended; if there is nothing, this does nothing.
    """
    files = StackFiles(directory)
    try:
        _ask_when_listening(files, Request("down"), on_event)
        _until_unlocked(files)
    except NoSupervisor as error:
        if _locked(files):
            log = files.log_of("supervisor")
            raise StackError(
                f"a stack is being started in {files.directory} and cannot be told to stop within"
                f" {_SUPERVISOR_START_S:g} s: see {log}"
            ) from error
        if files.lock.exists():
            _end_what_is_left(files, on_event)


def stop(directory: Path, name: str, on_event: OnEvent = ignore) -> StackStatus:
    """Stop one process in order; it stays stopped, and what depends on it goes on."""
    return ask(StackFiles(directory), Request("stop", name), on_event)


def start(directory: Path, name: str, on_event: OnEvent = ignore) -> StackStatus:
    """Start one process that is stopped or failed, with a new row of restarts; return when it is ready."""
    return ask(StackFiles(directory), Request("start", name), on_event)


def restart(directory: Path, name: str, on_event: OnEvent = ignore) -> StackStatus:
    """Stop one process in order and start it again; return when it is ready."""
    return ask(StackFiles(directory), Request("restart", name), on_event)


def _take(lock: int, files: StackFiles) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(lock, 32, 0).decode(errors="replace").strip()
        owner = f" (supervisor's pid {pid})" if pid else ""
        raise StackError(
            f"a stack already runs in {files.directory}{owner}:"
            " `ratchet status` shows it, `ratchet down` stops it"
        ) from error


def _end_what_is_left(files: StackFiles, on_event: OnEvent) -> None:
    if pids := end_leftovers(files.directory, files.pids):
        left = ", ".join(map(str, pids))
        on_event(StackEvent(datetime.now(UTC), "", f"ended what an earlier supervisor had left: {left}"))


def _check_space(directory: Path, min_free_bytes: int) -> None:
    free = shutil.disk_usage(directory).free
    if free < min_free_bytes:
        raise StackError(
            f"the disk of {directory} has {free // 10**6} MB free and the stack needs"
            f" {min_free_bytes // 10**6} MB: make room or choose another directory"
        )


def _spawn_supervisor(files: StackFiles, lock: int, tied: bool) -> int | None:
    """Start it, detached and with the lock; returns the end of the tie that this process must hold open."""
    command = [
        sys.executable,
        "-P",
        "-m",
        "infra.local.supervisor",
        str(files.directory),
        "--lock-fd",
        str(lock),
    ]
    tie: int | None = None
    stdin = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    if tied:
        os.close(stdin)
        stdin, tie = os.pipe()
    try:
        with files.log_of("supervisor").open("ab") as log:
            subprocess.run(
                [*command, *(["--tied"] if tied else [])],
                stdin=stdin,
                stdout=log,
                stderr=log,
                pass_fds=[lock],
                start_new_session=True,
                check=True,
            )
    except (OSError, subprocess.CalledProcessError) as error:
        if tie is not None:
            os.close(tie)
        raise StackError(f"the supervisor cannot be started: {error}") from error
    finally:
        os.close(stdin)
    return tie


def _ask_when_listening(files: StackFiles, request: Request, on_event: OnEvent) -> None:
    """Ask, again while somebody holds the lock and does not listen yet: a supervisor that is being started.

    Raises NoSupervisor when nobody holds it, or after ``_SUPERVISOR_START_S``.
    """
    deadline_s = time.monotonic() + _SUPERVISOR_START_S
    while True:
        try:
            ask(files, request, on_event)
            return
        except NoSupervisor:
            if not _locked(files) or time.monotonic() > deadline_s:
                raise
        time.sleep(_POLL_S)


def _until_unlocked(files: StackFiles) -> None:
    deadline_s = time.monotonic() + _SUPERVISOR_END_S
    while _locked(files):
        if time.monotonic() > deadline_s:
            raise StackError(
                f"the supervisor stopped everything but does not end: see {files.log_of('supervisor')}"
            )
        time.sleep(_POLL_S)


def _locked(files: StackFiles) -> bool:
    try:
        with files.lock.open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _abandon(files: StackFiles, on_event: OnEvent, tie: int | None) -> None:
    """After a failed start: stop what runs, whatever state it is in."""
    try:
        down(files.directory, on_event)
    except StackError as error:
        on_event(StackEvent(datetime.now(UTC), "", f"stopping what was started: {error}"))
    finally:
        if tie is not None:
            os.close(tie)


def _status_without_supervisor(files: StackFiles) -> StackStatus:
    try:
        spec = msgspec.json.decode(files.spec.read_bytes(), type=StackSpec)
        since = datetime.fromtimestamp(files.spec.stat().st_mtime, UTC)
    except (OSError, msgspec.DecodeError):
        return StackStatus(str(files.directory), None, None, ())
    left = find_leftovers(files.directory, files.pids)
    processes = tuple(
        ProcessStatus(process.name, None, "stopped", since, False, 0, str(files.log_of(process.name)))
        for process in spec.start_order()
    )
    return StackStatus(str(files.directory), None, None, processes, tuple(process.pid for process in left))
