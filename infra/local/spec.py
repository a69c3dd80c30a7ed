"""What a stack is: its processes, their order, when each is ready, and where a stack keeps its files."""

import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import msgspec

_NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")


class StackError(Exception):
    """The stack cannot do what was asked; the message is one sentence for the person who asked."""


class HttpReady(msgspec.Struct, frozen=True, tag="http"):
    """Ready when GET on ``url`` (plain http) answers 2xx."""

    url: str


class TcpReady(msgspec.Struct, frozen=True, tag="tcp"):
    """Ready when the port accepts a connection."""

    port: int
    host: str = "127.0.0.1"


class CommandReady(msgspec.Struct, frozen=True, tag="command"):
    """Ready when the command, run again and again in the process's folder, exits with status 0."""

    argv: tuple[str, ...]


Ready = HttpReady | TcpReady | CommandReady


class ProcessSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One process of a stack."""

    name: str
    argv: tuple[str, ...]
    #: Added to the environment in which the stack was started.
    env: dict[str, str] = {}
    #: The stack's directory if None.
    cwd: str | None = None
    #: Names of processes that must be ready before this one starts; it is stopped before they are.
    after: tuple[str, ...] = ()
    #: None: ready as soon as it is started.
    ready: Ready | None = None
    ready_timeout_s: float = 60.0
    #: From SIGTERM to SIGKILL.
    stop_timeout_s: float = 10.0


class RestartPolicy(msgspec.Struct, frozen=True):
    """Delays double from ``first_delay_s`` to ``max_delay_s``; after ``max_restarts`` in a row a process is
    failed.

    A process that stayed ready for ``stable_s`` begins a new row.
    """

    first_delay_s: float = 0.5
    max_delay_s: float = 30.0
    max_restarts: int = 4
    stable_s: float = 60.0

    def delay_s(self, restart: int) -> float:
        """The pause before the nth restart in a row (the first is 1)."""
        return float(min(self.max_delay_s, self.first_delay_s * 2 ** (restart - 1)))


class StackSpec(msgspec.Struct, frozen=True, kw_only=True):
    """The processes that live and die together, and the directory that tells this stack from every other."""

    directory: str
    processes: tuple[ProcessSpec, ...]
    #: What listens where, by a name for people; checked to be free before anything starts.
    ports: dict[str, int] = {}
    restart: RestartPolicy = RestartPolicy()
    min_free_bytes: int = 512 * 1024 * 1024
    #: A log is rotated at this size, and this many old ones are kept beside it.
    log_bytes: int = 10_000_000
    log_backups: int = 3

    def start_order(self) -> tuple[ProcessSpec, ...]:
        """The processes, each after all that it needs. Raises StackError if they make no sense."""
        by_name = {process.name: process for process in self.processes}
        if len(by_name) != len(self.processes):
            raise StackError("two processes of the stack have the same name: names must differ")
        for process in self.processes:
            if not _NAME.fullmatch(process.name):
                raise StackError(
                    f"a process's name must match {_NAME.pattern}, and {process.name!r} does not"
                )
            unknown = [name for name in process.after if name not in by_name]
            if unknown:
                raise StackError(f"{process.name} starts after {unknown[0]}, which is not in the stack")
        try:
            order = TopologicalSorter({p.name: p.after for p in self.processes}).static_order()
            return tuple(by_name[name] for name in order)
        except CycleError as error:
            raise StackError(f"processes wait for each other: {' -> '.join(error.args[1])}") from error


class StackFiles:
    """Where a stack keeps its files. ``private`` is its owner's only: environments may hold keys."""

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).resolve()
        self.private = self.directory / "stack"
        self.logs = self.directory / "log"
        #: Held with flock by the supervisor while it lives; holds its pid.
        self.lock = self.private / "lock"
        self.spec = self.private / "spec.json"
        self.ports = self.private / "ports.json"
        #: Pid and start time of each process, for the ``up`` that follows a kill -9.
        self.pids = self.private / "pids.json"
        self.socket = self.private / "control.sock"

    def make(self) -> None:
        """Make the folders. Raises StackError if that is not possible."""
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self.private.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(f"cannot use {self.directory} for the stack: {error.strerror}") from error

    def log_of(self, name: str) -> Path:
        """The log of a process; older parts are beside it with ``.1``, ``.2`` …"""
        return self.logs / f"{name}.log"


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file so that a reader, or a crash, never sees a part of it. Raises OSError."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(content)
    fresh.replace(path)
