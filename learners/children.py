"""Heavy work in a child process: its memory goes back when it ends, it is bounded, its failure is an answer.

    result = await run_child("learners.train.trial:run_trial", request, TrialResult, bounds)

The function takes one msgspec Struct and returns one. The child dies with its parent, however the parent
dies: the parent holds the child's standard input open, and the child ends when it closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import sys
import tempfile
import threading
import traceback
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
import psutil
from msgspec import Struct

from schemas.errors import RatchetError

_Result = TypeVar("_Result", bound=Struct)
_POLL_S: Final = 0.25


class Bounds(Struct, frozen=True, kw_only=True):
    """What a child may take. `nice`: it yields to whoever serves."""

    timeout_s: float
    memory_bytes: int
    nice: int = 10


class ChildFailed(RatchetError):
    """The child gave no result: it ran too long, took too much memory, or ended with an error."""


async def run_child(task: str, request: Struct, result: type[_Result], bounds: Bounds, log: Path) -> _Result:
    """Run `task` (`module:function`) on `request` in a child process and return what it returned.

    What the child prints is appended to `log`. Raises ChildFailed; a cancelled call kills the child.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="ratchet-child-") as folder, log.open("ab") as output:
        answer = Path(folder) / "result.json"
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "learners.children",
            task,
            str(answer),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
        )
        assert process.stdin is not None
        try:
            with contextlib.suppress(psutil.Error):
                psutil.Process(process.pid).nice(bounds.nice)
            process.stdin.write(msgspec.json.encode(request) + b"\n")
            await process.stdin.drain()
            await _wait_within(process, task, bounds)
        except (BrokenPipeError, ConnectionResetError):
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            process.stdin.close()
        if process.returncode != 0 or not answer.exists():
            raise ChildFailed(f"{task} ended with status {process.returncode}: {_last_line(log)} (see {log})")
        return msgspec.json.decode(answer.read_bytes(), type=result)


async def _wait_within(process: asyncio.subprocess.Process, task: str, bounds: Bounds) -> None:
    """Return when the child ended. Raises ChildFailed when it goes beyond a bound."""
    ended = asyncio.create_task(process.wait())
    try:
        async with asyncio.timeout(bounds.timeout_s):
            while not (await asyncio.wait({ended}, timeout=_POLL_S))[0]:
                used = _memory_bytes(process.pid)
                if used > bounds.memory_bytes:
                    raise ChildFailed(
                        f"{task} took {used:,} bytes of memory; the bound is {bounds.memory_bytes:,}"
                    )
    except TimeoutError as error:
        raise ChildFailed(f"{task} ran longer than its bound of {bounds.timeout_s} s") from error
    finally:
        ended.cancel()


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


def _main(task: str, answer: str) -> None:
    # OpenMP threads that wait actively take the processor from whoever serves: with other work on the same
    # cores they double a child's CPU time. Read once, when torch is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    request_bytes = b""
    while not request_bytes.endswith(b"\n"):
        if not (part := os.read(0, 1 << 16)):
            os._exit(75)
        request_bytes += part
    threading.Thread(target=_end_with_parent, daemon=True, name="end-with-parent").start()
    module, _, name = task.partition(":")
    function: Callable[[Any], Struct] = getattr(importlib.import_module(module), name)
    hints = typing.get_type_hints(function)
    (request_type,) = (kind for parameter, kind in hints.items() if parameter != "return")
    try:
        result = function(msgspec.json.decode(request_bytes, type=request_type))
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    partial = Path(answer + ".new")
    partial.write_bytes(msgspec.json.encode(result))
    partial.replace(answer)
    sys.stdout.flush()
    # Threads of native libraries must not hold a finished child.
    os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1], sys.argv[2])
