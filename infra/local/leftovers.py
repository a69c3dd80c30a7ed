"""Processes of a stack that outlived their supervisor or their parent: find them, end them, and nothing else.

Every process of a stack inherits ``_RATCHET_STACK`` (the directory) and ``_RATCHET_PROCESS`` (the name) in
its environment, whatever group or session it moves to. Those that hide their environment are found by pid and
start time in the file that the supervisor keeps, and as children of such. The caller and its ancestors are
never among them.
"""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import psutil

STACK_VARIABLE = "_RATCHET_STACK"
PROCESS_VARIABLE = "_RATCHET_PROCESS"

_END_WITHIN_S = 5.0


def marks(directory: Path, name: str) -> dict[str, str]:
    """The environment variables that make a process recognisable as part of the stack in ``directory``."""
    return {STACK_VARIABLE: str(directory), PROCESS_VARIABLE: name}


def start_time_s(pid: int) -> float | None:
    """When the process started, in seconds since the epoch; with its pid it names one process for ever."""
    try:
        return psutil.Process(pid).create_time()
    except psutil.Error:
        return None


def find_leftovers(directory: Path, pids_file: Path, name: str | None = None) -> list[psutil.Process]:
    """Living processes of the stack in ``directory`` (resolved), or of its process ``name`` only."""
    wanted = {STACK_VARIABLE: str(directory)} | ({PROCESS_VARIABLE: name} if name else {})
    spared = {os.getpid(), *(ancestor.pid for ancestor in psutil.Process().parents())}
    found: dict[int, psutil.Process] = {}
    for process in [*_marked(wanted), *_recorded(pids_file, name)]:
        if process.pid not in spared:
            found[process.pid] = process
            found.update({child.pid: child for child in _descendants(process) if child.pid not in spared})
    return [process for process in found.values() if _lives(process)]


def end_leftovers(directory: Path, pids_file: Path, name: str | None = None) -> list[int]:
    """Kill (SIGKILL) what ``find_leftovers`` finds, until it finds nothing; returns the killed pids."""
    killed: list[int] = []
    for _ in range(10):  # a process that is just forking may be missed by one look
        found = find_leftovers(directory, pids_file, name)
        if not found:
            break
        for process in found:
            try:
                process.kill()
                killed.append(process.pid)
            except psutil.NoSuchProcess:
                continue
        # Not psutil's wait_procs: it would reap a child that its parent waits for, and wait for zombies.
        deadline_s = time.monotonic() + _END_WITHIN_S
        while any(map(_lives, found)) and time.monotonic() < deadline_s:
            time.sleep(0.01)
    return sorted(set(killed))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _marked(wanted: Mapping[str, str]) -> Iterator[psutil.Process]:
    user = os.getuid()
    for process in psutil.process_iter():
        try:
            if process.uids().real == user and wanted.items() <= process.environ().items():
                yield process
        except (psutil.Error, OSError):
            continue


def _recorded(pids_file: Path, name: str | None) -> Iterator[psutil.Process]:
    try:
        recorded = msgspec.json.decode(pids_file.read_bytes(), type=dict[str, tuple[int, float]])
    except (OSError, msgspec.DecodeError):
        return
    for process_name, (pid, started_s) in recorded.items():
        if name in (None, process_name) and start_time_s(pid) == started_s:
            yield psutil.Process(pid)


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []
