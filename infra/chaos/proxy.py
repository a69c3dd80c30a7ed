"""A TCP proxy in front of the store: passes everything on, or slowly, or nothing at all."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

_CHUNK_BYTES: Final = 64 * 1024


class Proxy:
    """Listens on 127.0.0.1 and connects to another port of it. An async context manager."""

    def __init__(self, port: int, target_port: int) -> None:
        self._port = port
        self._target_port = target_port
        #: Each chunk of either direction waits this long, seconds.
        self.delay_s = 0.0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.refuse()

    async def listen(self) -> None:
        """Take connections (again). Raises OSError if the port is taken."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)

    async def refuse(self) -> None:
        """Break what is open and take no connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()  # as the store's own port would: nobody is there
            return
        self._open |= {writer, back}
        asking = asyncio.create_task(self._pass_on(reader, back))
        try:
            # a store that was killed answers nothing more: whoever waits for it must see that at once
            await self._pass_on(there, writer)
        finally:
            asking.cancel()
            for end in (writer, back):
                self._open.discard(end)
                end.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while chunk := await reader.read(_CHUNK_BYTES):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                writer.write(chunk)
                await writer.drain()
            if writer.can_write_eof():
                writer.write_eof()
        except OSError:
            writer.transport.abort()
