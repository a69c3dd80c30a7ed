"""Ratchet as an operator has it: the command line as subprocesses, and SQL under the analysts' account."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import httpx
import msgspec
from msgspec import Struct

from infra.demo.errors import DemoError

_END_S: Final = 90.0
_LAST_LINES: Final = 5


class Api(Struct, frozen=True):
    """Where the API listens, and the key for it."""

    url: str
    key: str


class Url(Struct, frozen=True):
    """An address."""

    url: str


class Store(Struct, frozen=True):
    """The analysts' account."""

    url: str
    user: str
    password: str


class Process(Struct, frozen=True):
    """A process of the stack."""

    name: str
    pid: int | None
    state: str = ""
    log: str = ""


class Status(Struct, frozen=True):
    """What `ratchet status --json` says, as far as it is needed here."""

    healthy: bool
    lag_events: int | None
    api: Api
    search: Url
    clickhouse: Store
    processes: tuple[Process, ...]
    since: str | None = None


class Stack:
    """A stack in `directory`. Every method raises DemoError with the command's own sentence."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._http = httpx.AsyncClient(timeout=60.0)
        self._store: Store | None = None

    @contextlib.asynccontextmanager
    async def running(self, on_line: Callable[[str], None]) -> AsyncIterator[Status]:
        """The stack, up and healthy; at the end, however it comes, it is stopped in order.

        It is tied to this process: should this one be killed, the stack ends by itself.
        """
        up = await asyncio.create_subprocess_exec(
            *self._command("up", "--tied"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for this process, which then stops the stack in order
        )
        assert up.stdin is not None
        assert up.stderr is not None
        drained: asyncio.Task[bytes] | None = None
        try:
            await self._until_ready(up.stderr, on_line)
            drained = asyncio.create_task(up.stderr.read())
            status = await self.status()
            self._store = status.clickhouse
            yield status
        finally:
            up.stdin.close()
            await self._end(up)
            if drained is not None:
                await drained
            await self._http.aclose()

    async def _until_ready(self, lines: asyncio.StreamReader, on_line: Callable[[str], None]) -> None:
        last: list[str] = []
        async for line in lines:
            text = line.decode(errors="replace").strip()
            if text.startswith("ready:"):
                return
            on_line(text)
            last = [*last, text][-_LAST_LINES:]
        raise DemoError("the stack did not start: " + (last[-1] if last else "it said nothing"))

    async def _end(self, up: asyncio.subprocess.Process) -> None:
        """Wait until the stack has stopped; what does not stop is told to, twice."""
        try:
            async with asyncio.timeout(_END_S):
                await up.wait()
        except TimeoutError:
            with contextlib.suppress(DemoError):
                await self.call("down")
            up.terminate()
            await up.wait()

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return (sys.executable, "-P", "-m", "api.cli", "-C", str(self.directory), *arguments)

    async def call(self, *arguments: str, codes: tuple[int, ...] = (0,)) -> bytes:
        """What a command prints. A cancelled call ends its command."""
        process = await asyncio.create_subprocess_exec(
            *self._command(*arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(),
        )
        try:
            out, err = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        if process.returncode not in codes:
            said = err.decode(errors="replace").strip().splitlines()
            raise DemoError(
                f"`ratchet {arguments[0]}` failed: {said[-1] if said else f'exit code {process.returncode}'}"
            )
        return out

    async def status(self) -> Status:
        """How the stack stands."""
        return msgspec.json.decode(await self.call("status", "--json", codes=(0, 1)), type=Status)

    async def check(self) -> None:
        """Raises DemoError if a process has failed for good: then nothing that is waited for will come."""
        for process in (await self.status()).processes:
            if process.state == "failed":
                raise DemoError(f"{process.name} failed and was given up: its log is {process.log}")

    async def rows(self, statement: str) -> list[dict[str, Any]]:
        """The rows of one SELECT over the promised views."""
        assert self._store is not None, "the stack is not up"
        try:
            answer = await self._http.post(
                self._store.url,
                params={
                    "database": "ratchet",
                    "default_format": "JSONEachRow",
                    "output_format_json_quote_64bit_integers": "0",
                    "wait_end_of_query": "1",
                },
                headers={"X-ClickHouse-User": self._store.user, "X-ClickHouse-Key": self._store.password},
                content=statement.encode(),
            )
        except httpx.TransportError as error:
            raise DemoError(
                f"ClickHouse does not answer ({error}): see {self.directory}/var/log/clickhouse.log"
            ) from error
        if answer.status_code != 200:
            raise DemoError(f"ClickHouse refused a statement: {answer.text.strip()[:300]}")
        return [msgspec.json.decode(line) for line in answer.content.splitlines() if line]

    async def count(self, statement: str) -> int:
        """The one number of a statement that names it `n`."""
        (row,) = await self.rows(statement)
        return int(row["n"])


def _environment() -> dict[str, str]:
    """Ours without settings of another stack."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RATCHET_")}
    # Threads that wait for each other must not spin: beside other work on the same cores that slows both.
    return {"OMP_WAIT_POLICY": "PASSIVE", **ours}
