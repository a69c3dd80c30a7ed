"""The two-sample tests at arm's length: a child process that comes when asked and goes when idle."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import msgspec

from learners.watch.settings import WatchSettings
from learners.watch.two_sample import WindowResult, WindowTest
from schemas.errors import Retryable

#: Asks for the p-values of one window, by column.
Tester = Callable[[WindowTest], Awaitable[dict[str, float]]]

#: Longest answer line; ours are a few hundred bytes.
_LINE_BYTES = 1 << 20


class TwoSampleProcess:
    """Runs `learners.watch.two_sample` as a child; calling it asks one question.

    The child starts with the first question, answers one at a time, and ends by itself after
    `settings.tester_idle_s`, with `close`, or when this process dies (its input ends). After an error or a
    timeout it is killed, and the next question starts a fresh one. Not safe for concurrent questions.
    """

    def __init__(self, settings: WatchSettings) -> None:
        self._settings = settings
        self._child: asyncio.subprocess.Process | None = None

    async def __call__(self, question: WindowTest) -> dict[str, float]:
        """p-values by column. Raises Retryable: the child took too long, died, or could not answer."""
        try:
            async with asyncio.timeout(self._settings.tester_timeout_s):
                result = await self._ask(question)
        # RuntimeError: uvloop's word for a pipe whose other end has gone.
        except (
            TimeoutError,
            OSError,
            RuntimeError,
            asyncio.IncompleteReadError,
            msgspec.MsgspecError,
        ) as error:
            await self.close()
            raise Retryable(
                f"two-sample test of window {question.window}: expected an answer within "
                f"{self._settings.tester_timeout_s} s, got {type(error).__name__} {error}; it is asked again",
                retry_after_s=10.0,
            ) from error
        except asyncio.CancelledError:
            await self.close()
            raise
        if result.error:
            raise Retryable(
                f"two-sample test of window {question.window}: {result.error}", retry_after_s=60.0
            )
        return result.p_values

    async def _ask(self, question: WindowTest) -> WindowResult:
        line = msgspec.json.encode(question) + b"\n"
        if self._child is not None:
            try:
                return await self._exchange(self._child, line)
            except (BrokenPipeError, ConnectionResetError, RuntimeError, asyncio.IncompleteReadError):
                await self.close()  # it went away idle, maybe at this very moment
        self._child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "learners.watch.two_sample",
            "--idle-s",
            str(self._settings.tester_idle_s),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=_LINE_BYTES,
            env={**os.environ, "DO_NOT_TRACK": "1"},
        )
        return await self._exchange(self._child, line)

    @staticmethod
    async def _exchange(child: asyncio.subprocess.Process, line: bytes) -> WindowResult:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(line)
        await child.stdin.drain()
        return msgspec.json.decode(await child.stdout.readuntil(b"\n"), type=WindowResult)

    async def close(self) -> None:
        """End the child, if there is one, and wait for it."""
        child, self._child = self._child, None
        if child is None:
            return
        if child.returncode is None:
            child.kill()
        await child.communicate()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
