"""Heavy work in a child process: its memory goes back when it ends, it is bounded, its failure is an answer.

    result = await run_child("learners.train.trial:run_trial", request, TrialResult, bounds, log)

The function takes one msgspec Struct and returns one: request and answer are lines of JSON on the child's
standard input and output. The child dies with its parent, however the parent dies: the parent holds the
child's standard input open, and the child ends when it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import threading
import traceback
import typing
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec
import psutil
from msgspec import Struct

from schemas.errors import RatchetError

_Result = TypeVar("_Result", bound=Struct)
_POLL_S: Final = 0.25
#: A log that is larger is put aside when the next child starts.
_LOG_BYTES: Final = 10_000_000


class Bounds(Struct, frozen=True, kw_only=True):
    """What a child may take. `nice`: it yields to whoever serves."""

    timeout_s: float
    memory_bytes: int
    nice: int = 10


class ChildFailed(RatchetError):
    """The child gave no result: it ran too long, took too much memory, or ended with an error."""


async def run_child(task: str, request: Struct, result: type[_Result], bounds: Bounds, log: Path) -> _Result:
    """Run `task` (`module:function`) on `request` in a child process and return what it returned.

    What the child prints is appended to `log` (one of more than 10 MB becomes `log.1` before); nothing else
    is written to disk. Raises ChildFailed; a cancelled call kills the child.
    """
    with _open_log(log) as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "learners.children",
            task,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=output,
        )
    assert process.stdin is not None
    try:
        with contextlib.suppress(psutil.Error):
            psutil.Process(process.pid).nice(bounds.nice)
        answer = await _ask_within(process, msgspec.json.encode(request) + b"\n", task, bounds)
    finally:
        if process.returncode is None:
            process.kill()
            # what it still wrote is read: asyncio sees the end of a child only behind the end of its pipes
            await process.communicate()
        process.stdin.close()
    if process.returncode != 0 or not answer.endswith(b"\n"):
        raise ChildFailed(f"{task} ended with status {process.returncode}: {_last_line(log)} (see {log})")
    return msgspec.json.decode(answer, type=result)


def _open_log(log: Path) -> BinaryIO:
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > _LOG_BYTES:
            log.replace(log.with_name(f"{log.name}.1"))
    return log.open("ab")


async def _ask_within(process: Process, line: bytes, task: str, bounds: Bounds) -> bytes:
    """The child's answer, once it has ended. Raises ChildFailed when it goes beyond a bound."""
    asking = asyncio.create_task(_ask(process, line))
    try:
        async with asyncio.timeout(bounds.timeout_s):
            while not (await asyncio.wait({asking}, timeout=_POLL_S))[0]:
                used = _memory_bytes(process.pid)
                if used > bounds.memory_bytes:
                    raise ChildFailed(
                        f"{task} took {used:,} bytes of memory; the bound is {bounds.memory_bytes:,}"
                    )
            return asking.result()
    except TimeoutError as error:
        raise ChildFailed(f"{task} ran longer than its bound of {bounds.timeout_s} s") from error
    finally:
        asking.cancel()
        # until it let go of the pipe, nobody else can read from it
        await asyncio.wait({asking})


async def _ask(process: Process, line: bytes) -> bytes:
    """Send the request, take what comes until the child has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line)
    # a child that ends before it has read all says why in its log
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        await process.stdin.drain()
    answer = await process.stdout.read()
    await process.wait()
    return answer


def _memory_bytes(pid: int) -> int:
    """Resident memory of a process and its children; 0 if it is gone."""
    try:
        parent = psutil.Process(pid)
        return sum(p.memory_info().rss for p in (parent, *parent.children(recursive=True)))
    except psutil.Error:
        return 0


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it printed nothing"


def _end_with_parent() -> None:
    # Past sys.stdin: its lock, held here, would stop the interpreter from ending.
    while os.read(0, 4096):
        pass
    os._exit(75)


def _main(task: str) -> None:
    # The answer has the standard output for itself: what a task prints goes where its errors go, to the log.
    answer = os.dup(1)
    os.dup2(2, 1)
    # OpenMP threads that wait actively take the processor from whoever serves: with other work on the same
    # cores they double a child's CPU time. Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (part := os.read(0, 1 << 16)):
            os._exit(75)
        line += part
    threading.Thread(target=_end_with_parent, daemon=True, name="end-with-parent").start()
    module, _, name = task.partition(":")
    function: Callable[[Any], Struct] = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(function)
    (request_type,) = (kind for parameter, kind in hints.items() if parameter != "return")
    try:
        result = function(msgspec.json.decode(line, type=request_type))
    except Exception:
        sys.stdout.flush()
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stdout.flush()
    with os.fdopen(answer, "wb") as pipe:
        pipe.write(msgspec.json.encode(result) + b"\n")
    # Threads of native libraries must not hold a finished child.
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1])
