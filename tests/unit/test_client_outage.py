"""The outbox through real outages: a server that goes and comes back, and kill -9 of the application."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from ratchet_client import Limits, Outbox

from tests.unit.client_bridge import Bridge
from tests.unit.http_door import Site

pytestmark = pytest.mark.service
CLIENT = Path(__file__).parents[2] / "api" / "client"

#: Records in four threads for ever; an id goes into the second file only when `record` has returned.
APPLICATION = """
import os, sys, threading
from ratchet_client import Limits, Outbox

url, folder, told, name = sys.argv[1:]
fd = os.open(told, os.O_CREAT | os.O_APPEND | os.O_WRONLY)
limits = Limits(batch_events=20, batch_age_s=0.05, longest_wait_s=0.1, segment_bytes=4000, adopt_every_s=0.2)
outbox = Outbox(url, "acme-key", spill=folder, durable=True, limits=limits, timeout_s=2)

def record(thread):
    for number in range(10**6):
        sent = outbox.query(f"question {number}", query_id=f"{name}-{thread}-{number}")
        os.write(fd, f"{sent.id}\\n".encode())
        os.fsync(fd)

for thread in range(4):
    threading.Thread(target=record, args=(thread,)).start()
"""


class Server:
    """The real application behind a real port, which can be closed and opened again."""

    def __init__(self, site: Site) -> None:
        self._bridge = Bridge(site)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._http: ThreadingHTTPServer | None = None

    def open(self) -> None:
        bridge = self._bridge

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name: self.headers[name] for name in ("authorization", "content-type")}
                request = httpx.Request("POST", f"http://ratchet{self.path}", headers=headers, content=body)
                answer = bridge.handle_request(request)
                self.send_response(answer.status_code)
                self.send_header("content-type", answer.headers["content-type"])
                self.send_header("content-length", str(len(answer.content)))
                # Connections end with each answer: who was closed must not go on over an old one.
                self.send_header("connection", "close")
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            allow_reuse_address = True

            def handle_error(self, request: object, client_address: object) -> None:
                """Clients here are killed while they are answered."""

        self._http = Quiet(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}).start()

    def close(self) -> None:
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def server(site: Site) -> Iterator[Server]:
    server = Server(site)
    server.open()
    yield server
    server.close()


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.01)


def test_an_outage_loses_nothing_and_doubles_nothing(site: Site, server: Server, tmp_path: Path) -> None:
    limits = Limits(batch_events=20, batch_age_s=0.01, longest_wait_s=0.1, memory_bytes=5_000)
    with Outbox(server.url, "acme-key", spill=tmp_path, limits=limits, timeout_s=2) as outbox:
        sent = [outbox.query(f"before {number}").id for number in range(50)]
        assert outbox.flush() == 0
        server.close()
        sent += [outbox.query(f"during {number}").id for number in range(500)]
        until(lambda: "Connect" in outbox.figures().trouble)
        assert outbox.flush(0.2) == 500
        # Nothing is left in memory while the server is away.
        sent.append(outbox.query("later").id)
        lines = sum(path.read_bytes().count(b"\n") for path in tmp_path.iterdir())
        assert lines == 501
        server.open()
        sent += [outbox.query(f"after {number}").id for number in range(50)]
        assert outbox.flush() == 0
        figures = outbox.figures()
    assert (figures.recorded, figures.accepted, figures.trouble) == (601, 601, "")
    assert sorted(event.id for event in site.events()) == sorted(sent)
    assert not list(tmp_path.iterdir())


def test_kill_9_loses_nothing_that_was_recorded(site: Site, server: Server, tmp_path: Path) -> None:
    """Three applications after each other in one folder; the first two are killed, one in an outage."""
    folder, told = tmp_path / "spill", tmp_path / "told"
    told.touch()

    def recorded() -> list[str]:
        return told.read_text().split("\n")[:-1]

    def run_and_kill(name: str, more: int, between: Callable[[], None]) -> None:
        child = subprocess.Popen(
            [sys.executable, "-P", "-c", APPLICATION, server.url, str(folder), str(told), name],
            env={"PYTHONPATH": str(CLIENT)},
        )
        try:
            before = len(recorded())
            until(lambda: len(recorded()) > before + more)
            between()
            before = len(recorded())
            until(lambda: len(recorded()) > before + more)
        finally:
            child.send_signal(signal.SIGKILL)
            assert child.wait() == -9

    run_and_kill("a", 100, lambda: None)
    run_and_kill("b", 100, server.close)
    left = len(list(folder.glob("*.events.jsonl")))
    assert left > 0
    run_and_kill("c", 50, server.open)
    with Outbox(server.url, "acme-key", spill=folder, timeout_s=2) as outbox:
        assert outbox.flush(20) == 0
    events = site.events()
    stored = Counter(event.id for event in events)
    assert len(recorded()) > 500
    assert not set(recorded()) - set(stored)
    # What was sent twice is the same event: folding counts it once.
    assert len({(event.identity, bytes(event.data), event.time) for event in events}) == len(stored)
    assert not list(folder.iterdir())
