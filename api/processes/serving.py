"""A Litestar application on granian, in this process's own event loop."""

from __future__ import annotations

import asyncio
import logging
import socket

from granian.constants import Interfaces
from granian.server.embed import Server
from litestar import Litestar

from schemas.errors import RatchetError


class AddressInUse(RatchetError):
    """Another program listens where this process should."""


async def serve_until(app: Litestar, host: str, port: int, told: asyncio.Event) -> None:
    """Serve until `told` is set, then finish the requests under way. Raises AddressInUse."""
    _require_free(host, port)
    logging.getLogger("_granian").setLevel(logging.ERROR)
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        backlog=1024,
        backpressure=512,
        websockets=False,
        log_enabled=False,
        log_access=False,
    )

    async def stop_when_told() -> None:
        await told.wait()
        server.stop()  # type: ignore[no-untyped-call]

    stopper = asyncio.create_task(stop_when_told())
    try:
        await server.serve()
    finally:
        told.set()
        stopper.cancel()


def _require_free(host: str, port: int) -> None:
    """granian would share the port with another listener, and each would get some of the requests."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise AddressInUse(
                f"port {port} on {host} is in use: end what listens there, or set another in ratchet.toml"
            ) from error
