"""Real Kafka and the real engine as processes for one test module, in a directory of its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec

from infra.clickhouse.engine import EngineSettings
from infra.settings import ClickHouseSettings, KafkaSettings

_START_S = 60.0
_ENGINE = """
import asyncio, sys, msgspec
from infra.clickhouse.engine import EngineSettings, serve
asyncio.run(serve(msgspec.json.decode(sys.argv[1], type=EngineSettings)))
"""


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def wait_for(what: str, happens: Callable[[], bool], limit_s: float = _START_S) -> None:
    """Poll until it happens; an AssertionError names what did not."""
    deadline = time.monotonic() + limit_s
    while not happens():
        assert time.monotonic() < deadline, f"{what} did not happen within {limit_s} s"
        time.sleep(0.05)


async def wait_until(what: str, happens: Callable[[], bool], limit_s: float = _START_S) -> None:
    """`wait_for` for tests in a loop: the condition is asked in a thread."""
    await asyncio.to_thread(wait_for, what, happens, limit_s)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
    except OSError:
        return False
    return True


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def _process(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen([sys.executable, "-P", *argv], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


@contextmanager
def running_engine(directory: Path, *, max_body_bytes: int = 256 << 20) -> Iterator[ClickHouseSettings]:
    """An engine process on an empty directory; killed at the end."""
    (port,) = free_ports(1)
    settings = EngineSettings(
        path=str(directory / "clickhouse"),
        port=port,
        writer_password="w",
        analyst_password="a",
        max_body_bytes=max_body_bytes,
    )
    with _process(
        ["-c", _ENGINE, msgspec.json.encode(settings).decode()], directory / "engine.log"
    ) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for("the engine's start", lambda: process.poll() is not None or _answers(f"{url}/readyz"))
        assert process.poll() is None, (directory / "engine.log").read_text()
        yield ClickHouseSettings(url=url, password="w", analyst_password="a")


@contextmanager
def running_kafka(directory: Path) -> Iterator[KafkaSettings]:
    """A broker process on an empty directory; killed at the end. Its jars have been fetched before."""
    port, controller = free_ports(2)
    argv = ["-m", "infra.local.broker", "run", "--directory", str(directory / "kafka")]
    argv += ["--port", str(port), "--controller-port", str(controller)]
    with _process(argv, directory / "kafka.log") as process:
        wait_for("the broker's start", lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (directory / "kafka.log").read_text()
        yield KafkaSettings(bootstrap=f"127.0.0.1:{port}")
