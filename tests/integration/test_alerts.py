"""The process `alerts` over a real broker: raised, told, kept over kill -9, cleared."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.kafka.lifecycle import LifecycleTail
from infra.kafka.log import ensure_topics
from infra.settings import KafkaSettings
from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.lifecycle import AlertCleared, AlertRaised
from schemas.topics import PLATFORM
from tests.live_services import free_ports, wait_until

ROOT = Path(__file__).resolve().parents[2]
SECRET = "of-the-receiver"
#: Its alerts wait for nothing: they would hold for minutes before they are raised.
PROGRAM = """
import sys
from msgspec.structs import replace
import schemas.alerts
schemas.alerts.ALERTS = tuple(
    replace(alert, for_s=0) for alert in schemas.alerts.ALERTS if alert.name == "RatchetDiskFilling"
)
import runpy
runpy.run_module("api.processes.alerts", run_name="__main__")
"""
RAISED = 'RatchetDiskFilling{{instance="127.0.0.1:{port}",job="ratchet-streams"}}'


class Neighbour:
    """An HTTP server with the metrics of a worker, and the webhook of whoever is to be told."""

    def __init__(self) -> None:
        self.free_bytes = 1
        self.answers: list[int] = []
        self.told: list[tuple[dict[str, str], bytes]] = []
        neighbour = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                text = f"ratchet_disk_free_bytes {neighbour.free_bytes}\nratchet_disk_size_bytes 100\n"
                self.answer(200, text.encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                neighbour.told.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.answer(neighbour.answers.pop(0) if neighbour.answers else 200, b"")

            def answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Neighbour:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def said(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.told]


@contextmanager
def alerts_process(
    directory: Path, broker: str, neighbour: Neighbour, port: int
) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **os.environ,
        "RATCHET_KAFKA__BOOTSTRAP": broker,
        "RATCHET_ALERTS_HTTP__PORT": str(port),
        "RATCHET_ALERTS__INTERVAL_S": "0.2",
        "RATCHET_ALERTS__TARGETS": json.dumps({"ratchet-streams": [f"http://127.0.0.1:{neighbour.port}"]}),
        "RATCHET_ALERTS__WEBHOOK_URL": f"http://127.0.0.1:{neighbour.port}/hook",
        "RATCHET_ALERTS__WEBHOOK_SECRET_FILE": str(directory / "secret"),
    }
    (directory / "secret").write_text(SECRET + "\n")
    with (directory / "alerts.log").open("ab") as log:
        command = [sys.executable, "-P", "-c", PROGRAM, "--directory", str(directory)]
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def shown(port: int) -> list[dict[str, Any]]:
    """What `ratchet status` asks for."""
    try:
        alerts: list[dict[str, Any]] = httpx.get(f"http://127.0.0.1:{port}/alerts").json()["alerts"]
    except httpx.TransportError:
        return []
    return alerts


@pytest.mark.service
async def test_an_alert_is_raised_told_kept_and_cleared(broker: str, tmp_path: Path) -> None:
    await ensure_topics(KafkaSettings(bootstrap=broker))
    heard: list[Event] = []
    (port,) = free_ports(1)
    with Neighbour() as neighbour:
        key = RAISED.format(port=neighbour.port)

        def steps(kind: type) -> list[Event]:
            """Of this alert: the broker is shared by the session."""
            return [e for e in heard if isinstance(p := decode_payload(e), kind) and p.alert == key]  # type: ignore[attr-defined]

        neighbour.answers = [500, 503]
        async with LifecycleTail(
            broker, on_event=lambda event, outcome, _: heard.append(event) if outcome.accepted else None
        ) as tail:
            with alerts_process(tmp_path, broker, neighbour, port) as process:
                await wait_until("the receiver takes it at the third time", lambda: len(neighbour.told) >= 3)
                await wait_until("the lifecycle has it", lambda: len(steps(AlertRaised)) == 1)
                (one,) = shown(port)
                assert (one["alert"], one["severity"], one["value"]) == (
                    "RatchetDiskFilling",
                    "critical",
                    0.01,
                )
                process.send_signal(signal.SIGKILL)
            taken = len(neighbour.told)
            with alerts_process(tmp_path, broker, neighbour, port) as process:
                await wait_until("it is told again", lambda: len(neighbour.told) > taken)
                await wait_until("it is shown again", lambda: len(shown(port)) == 1)
                neighbour.free_bytes = 50
                await wait_until("the lifecycle has the end", lambda: len(steps(AlertCleared)) == 1)
                await wait_until("the end is told", lambda: neighbour.said()[-1]["status"] == "resolved")
                assert shown(port) == []
                process.send_signal(signal.SIGTERM)
                assert await asyncio.to_thread(process.wait, 20) == 0
            assert key not in tail.current(PLATFORM).alerts
        (raised,), (cleared,) = steps(AlertRaised), steps(AlertCleared)
        assert raised.tenant == cleared.tenant == PLATFORM
        assert cleared.causationid == raised.id
        assert {body["alerts"][0]["labels"]["job"] for body in neighbour.said()} == {"ratchet-streams"}
        for headers, body in neighbour.told:
            signed = headers["ratchet-timestamp"].encode() + b"." + body
            digest = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
            assert headers["ratchet-signature"] == f"sha256={digest}"
