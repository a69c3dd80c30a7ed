"""The engine as a process of its own, on a directory that a test chooses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import clickhouse_connect
import httpx
import msgspec

from infra.clickhouse.engine import EngineSettings
from tests.live_services import free_ports, wait_for

_CODE = """
import asyncio, sys
import msgspec
from infra.clickhouse.engine import EngineSettings, EngineUnavailable, serve
try:
    asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=EngineSettings)))
except EngineUnavailable as error:
    sys.exit(f"{error}")
"""


def start_command(settings: EngineSettings) -> list[str]:
    """Runs an engine until SIGTERM; one that cannot start says why on standard error and ends with 1."""
    return [sys.executable, "-P", "-c", _CODE, msgspec.json.encode(settings).decode()]


def settings_for(path: Path, **changes: Any) -> EngineSettings:
    """Settings on a free port, with the passwords of `EngineProcess`."""
    fixed: dict[str, Any] = {
        "port": free_ports(1)[0],
        "writer_password": "writer's",
        "analyst_password": "analyst's",
    }
    return EngineSettings(path=str(path), **(fixed | changes))


class EngineProcess:
    """One engine process, started by the constructor; a context manager that leaves none running."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.url = f"http://{settings.host}:{settings.port}"
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it (again) and wait until it answers."""
        self.process = subprocess.Popen(start_command(self.settings), stdout=subprocess.DEVNULL)
        wait_for("the engine's start", self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, "the engine ended while it started"
        return self.page("/readyz") == 200

    def stop(self) -> int:
        """End it as a supervisor does; its exit status."""
        self.process.terminate()
        return self.process.wait(30)

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait(30)

    def page(self, path: str) -> int:
        """Status of a page; 0 if nobody answers."""
        try:
            return httpx.get(self.url + path).status_code
        except httpx.TransportError:
            return 0

    def ask(self, sql: str, user: str = "ratchet", **parameters: str) -> httpx.Response:
        """The answer to a statement, as it comes over HTTP."""
        password = "writer's" if user == "ratchet" else "analyst's"
        return httpx.post(self.url, params=parameters, content=sql, auth=(user, password), timeout=60)

    def client(self, user: str = "ratchet", **options: Any) -> Any:
        """ClickHouse's own client, under the account."""
        return clickhouse_connect.get_client(**self.options(user, **options))

    def options(self, user: str = "ratchet", **options: Any) -> dict[str, Any]:
        """What such a client is made with."""
        return {
            "host": self.settings.host,
            "port": self.settings.port,
            "username": user,
            "password": "writer's" if user == "ratchet" else "analyst's",
            "autogenerate_session_id": False,
            **options,
        }

    def running(self) -> int:
        """Statements that run, without the one that asks."""
        return int(self.ask("SELECT count() - 1 FROM system.processes").text)
