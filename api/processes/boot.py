"""What every process does first and last: settings, logs, a loop, one sentence when it cannot go on."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
import uvloop

from api.logs import configure_logs
from api.settings import Settings, load_settings
from schemas.errors import Fatal, RatchetError, Retryable

#: sysexits: EX_CONFIG is for an operator to mend; EX_SOFTWARE and EX_TEMPFAIL a restart may mend.
EXIT_SETTINGS = 78
EXIT_FATAL = 70
EXIT_RETRY = 75


class Place:
    """Where this process works: the project's directory, and its data below `var/`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.data = directory / "var"


Main = Callable[[Settings, Place], Awaitable[None]]


def run_process(name: str, main: Main) -> None:
    """Run a process's `main` until it returns. Signals cancel nothing: `main` watches `stopping()`."""
    parser = argparse.ArgumentParser(prog=f"ratchet {name}")
    parser.add_argument("--directory", type=Path, default=Path(), help="the project's directory")
    place = Place(parser.parse_args().directory.resolve())
    log = structlog.get_logger(name)
    try:
        settings = load_settings(place.directory).settings
        configure_logs(name, settings.log.level)
        uvloop.run(_guarded(main, settings, place))
    except Fatal as error:
        log.critical("fatal", error=str(error))
        sys.exit(EXIT_FATAL)
    except Retryable as error:
        log.error("cannot run yet", error=str(error))
        sys.exit(EXIT_RETRY)
    except RatchetError as error:
        log.critical("cannot run", error=str(error))
        sys.exit(EXIT_SETTINGS)
    except KeyboardInterrupt:
        sys.exit(130)


async def _guarded(main: Main, settings: Settings, place: Place) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_report)
    await main(settings, place)


def _report(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    logging.getLogger("asyncio").error(
        "%s", context.get("message"), exc_info=error if isinstance(error, BaseException) else None
    )


def stopping() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set. Call it once, in the process's loop."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told
