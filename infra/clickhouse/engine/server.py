"""Runs the engine's application until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Final

import structlog
from granian.constants import Interfaces
from granian.server.embed import Server

from .app import EngineApp
from .errors import AddressInUse
from .settings import EngineSettings

#: How long open connections may take to close, once every statement has ended.
_STOP_S: Final = 3.0

_log = structlog.stdlib.get_logger("ratchet.engine")


async def serve(settings: EngineSettings) -> None:
    """Opens the directory, answers on host:port until SIGTERM or SIGINT, then closes the directory.

    Raises AddressInUse, DirectoryInUse or EngineUnavailable, each with one sentence for the person who
    started it; prints nothing itself.
    """
    _require_free(settings.host, settings.port)
    app = EngineApp(settings)
    began_s = time.perf_counter()
    app.open()
    loop = asyncio.get_running_loop()
    server = Server(
        app,
        address=settings.host,
        port=settings.port,
        interface=Interfaces.ASGINL,
        backpressure=max(256, settings.max_queries * 4),
        websockets=False,
        log_enabled=False,
        log_access=False,
    )

    told_to_stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, told_to_stop.set)
    logging.getLogger("_granian").setLevel(logging.ERROR)
    _log.info(
        "engine open",
        path=settings.path,
        host=settings.host,
        port=settings.port,
        version=app.version,
        opened_s=round(time.perf_counter() - began_s, 3),
    )
    try:
        await _serve_until(told_to_stop, app, server)
    except OSError as error:
        raise AddressInUse(settings.host, settings.port, str(error)) from error
    finally:
        await app.close()
        _log.info("engine closed", path=settings.path)


async def _serve_until(told_to_stop: asyncio.Event, app: EngineApp, server: Server) -> None:
    """Serves; once told to stop takes no new statements, lets the running ones end, and stops."""
    stop_server: Callable[[], None] = server.stop
    serving = asyncio.create_task(server.serve())
    told = asyncio.create_task(told_to_stop.wait())
    await asyncio.wait({serving, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    if not serving.done():
        await app.drain()
        stop_server()
        # granian waits for ever for a client that does not read its answer
        await asyncio.wait({serving}, timeout=_STOP_S)
    if serving.done():
        serving.result()
    else:
        serving.cancel()


def _require_free(host: str, port: int) -> None:
    """Raises AddressInUse if somebody listens there; granian would share the port with them silently."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise AddressInUse(host, port, error.strerror or str(error)) from error
