"""How ``ratchet`` talks to a supervisor: one JSON request a connection, JSON lines as the answer.

The socket lies in the stack's own directory, so that two stacks cannot meet and no cleaner of temporary files
takes it away. A socket's path may have only 107 bytes; it is reached through ``/proc/self/fd``, however long
the directory.
"""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec

from infra.local.spec import StackError, StackFiles

#: It asks every process for at most 2 s, all at once.
_STATUS_WITHIN_S = 15.0

ProcessState = Literal["starting", "running", "backoff", "failed", "stopped"]


class StackEvent(msgspec.Struct, frozen=True):
    """Something that happened, as one line for a person."""

    time: datetime
    #: Empty if it is about the whole stack.
    process: str
    text: str


class ProcessStatus(msgspec.Struct, frozen=True):
    """What one process does now."""

    name: str
    #: None while it does not run.
    pid: int | None
    state: ProcessState
    #: When it entered this state (UTC).
    since: datetime
    #: Asked just now: it runs and says that it is ready.
    ready: bool
    #: Since the stack was started, without those that a person asked for.
    restarts: int
    log: str
    #: Why it is in this state; empty if there is nothing to say.
    reason: str = ""


class StackStatus(msgspec.Struct, frozen=True):
    """What runs in a directory."""

    directory: str
    #: None: no stack runs here, and every process is ``stopped``.
    supervisor_pid: int | None
    #: When the supervisor was started (UTC); None without one.
    since: datetime | None
    processes: tuple[ProcessStatus, ...]
    #: Pids that a dead supervisor left behind; the next ``up`` or ``down`` ends them.
    leftovers: tuple[int, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether the stack runs and each of its processes is ready."""
        return self.supervisor_pid is not None and all(process.ready for process in self.processes)


class Request(msgspec.Struct, frozen=True):
    """What a person wants: ``wait`` follows the start to its end; start, stop and restart name a process."""

    operation: Literal["status", "wait", "down", "start", "stop", "restart"]
    name: str = ""


class Happened(msgspec.Struct, frozen=True, tag="happened"):
    """A line of progress; more follows."""

    event: StackEvent


class Done(msgspec.Struct, frozen=True, tag="done"):
    """The last line: it is done, and this is how things stand."""

    status: StackStatus


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    """The last line: it could not be done, and why, in one sentence."""

    message: str


Reply = Happened | Done | Refused


class NoSupervisor(StackError):
    """Nobody listens in this directory."""


@contextmanager
def short_path(socket_path: Path) -> Iterator[str]:
    """A name of at most 40 bytes for a socket in a directory that exists. Raises OSError if it does not."""
    folder = os.open(socket_path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{socket_path.name}"
    finally:
        os.close(folder)


def listen(files: StackFiles) -> socket.socket:
    """The supervisor's end, which only this user can reach. Whoever calls holds the stack's lock."""
    files.socket.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    with short_path(files.socket) as path:
        listener.bind(path)
        Path(path).chmod(0o600)
    listener.listen()
    return listener


def ask(files: StackFiles, request: Request, on_event: Callable[[StackEvent], None]) -> StackStatus:
    """Send a request, pass progress on, return how things stand at its end.

    Raises NoSupervisor if nobody listens, StackError with the supervisor's sentence if it cannot be done.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            with short_path(files.socket) as path:
                connection.connect(path)
        except OSError as error:
            raise NoSupervisor(f"no stack runs in {files.directory}: `ratchet up` starts one") from error
        if request.operation == "status":
            connection.settimeout(_STATUS_WITHIN_S)
        connection.sendall(msgspec.json.encode(request) + b"\n")
        try:
            for line in connection.makefile("rb"):
                match msgspec.json.decode(line, type=Reply):
                    case Happened(event=event):
                        on_event(event)
                    case Done(status=status):
                        return status
                    case Refused(message=message):
                        raise StackError(message)
        except TimeoutError as error:
            log = files.log_of("supervisor")
            raise StackError(
                f"the supervisor does not answer within {_STATUS_WITHIN_S:g} s: see {log}"
            ) from error
        except OSError:
            pass  # a reset is the same to the caller as the end of the stream
    raise StackError(f"the supervisor ended before it answered: see {files.log_of('supervisor')}")
