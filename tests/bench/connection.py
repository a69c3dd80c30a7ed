"""HTTP/1.1 over one kept connection, as cheap as it gets: a load generator must not be what limits."""

from __future__ import annotations

import asyncio
from typing import Self, cast
from urllib.parse import urlsplit


class Connection(asyncio.Protocol):
    """One connection with one request at a time. Understands answers with a length and chunked ones."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connect to the host of this URL."""
        address = urlsplit(url)
        host, port = address.hostname or "127.0.0.1", address.port or 80
        _, protocol = await asyncio.get_running_loop().create_connection(cls, host, port)
        return protocol

    async def exchange(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; status and body of its answer. Raises ConnectionError."""
        if self._transport is None:
            raise ConnectionError("the connection is closed")
        self._waiter = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiter

    def close(self) -> None:
        """Close it."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self._transport = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(ConnectionError(f"the server closed the connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._buffer = self._buffer + data if self._buffer else data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        body = _body(head.lower(), rest)
        if body is not None and self._waiter is not None:
            self._buffer = b""
            self._waiter.set_result((int(head[9:12]), body))


def _body(head: bytes, rest: bytes) -> bytes | None:
    """The body if it is whole."""
    _, found, value = head.partition(b"\r\ncontent-length:")
    if found:
        return rest if len(rest) >= int(value.partition(b"\r")[0]) else None
    if b"\r\ntransfer-encoding: chunked" not in head:
        raise ConnectionError(f"expected an answer with a length or in chunks, got {head!r}")
    body = b""
    while True:
        size, found, rest = rest.partition(b"\r\n")
        length = int(size, 16) if found else 0
        if not found or len(rest) < length + 2:
            return None
        if length == 0:
            return body
        body += rest[:length]
        rest = rest[length + 2 :]


def request_bytes(
    method: str, url: str, authorization: str, body: bytes = b"", content_type: str = ""
) -> bytes:
    """A request as it goes over the wire. `authorization`: the header's value."""
    address = urlsplit(url)
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    lines = [f"{method} {path} HTTP/1.1", f"host: {address.netloc}", f"authorization: {authorization}"]
    if body:
        lines += [f"content-type: {content_type}", f"content-length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body
