"""Is a process ready? One short question by HTTP, TCP or a command; no HTTP library, to stay small."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from infra.local.spec import CommandReady, HttpReady, Ready, TcpReady

_PAUSE_S = 0.1


async def is_ready(ready: Ready, env: Mapping[str, str], cwd: Path, timeout_s: float = 2.0) -> bool:
    """Ask once. Whatever goes wrong, including the timeout, means no."""
    try:
        async with asyncio.timeout(timeout_s):
            match ready:
                case HttpReady(url=url):
                    return await _http_answers(url)
                case TcpReady(host=host, port=port):
                    _, writer = await asyncio.open_connection(host, port)
                    writer.close()
                    return True
                case CommandReady(argv=argv):
                    return await _command_succeeds(argv, env, cwd)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return False


async def until_ready(ready: Ready | None, env: Mapping[str, str], cwd: Path) -> None:
    """Return when the answer is yes; bounding the wait is the caller's."""
    while ready is not None and not await is_ready(ready, env, cwd, timeout_s=10.0):  # noqa: ASYNC110
        await asyncio.sleep(_PAUSE_S)


async def _http_answers(url: str) -> bool:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or 80)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode())
        status = (await reader.readuntil(b"\r\n")).split(b" ", 2)
        return len(status) > 1 and status[1].startswith(b"2")
    finally:
        writer.close()


async def _command_succeeds(argv: tuple[str, ...], env: Mapping[str, str], cwd: Path) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=cwd, env=dict(env), stdin=quiet, stdout=quiet, stderr=quiet
    )
    try:
        return await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
