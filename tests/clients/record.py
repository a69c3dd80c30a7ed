"""Drives the real clients of other tools against the real application and records what they send.

    python -P -m tests.clients.record [NAME …]

Each client lives in an environment of its own under `var/clients`, made by `uv` when it is not there. A
client runs its `drive_*.py`, which fails unless the client is content with our answers. What went over the
wire is written to `tests/golden/clients/NAME.json`; the tests send it again, without the clients.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.unit.http_door import Site

ROOT: Final = Path(__file__).parents[2]
GOLDEN: Final = ROOT / "tests" / "golden" / "clients"
ENVIRONMENTS: Final = ROOT / "var" / "clients"
#: Headers that say how the body is to be read and who sends it; the others differ from run to run.
KEPT_HEADERS: Final = ("authorization", "x-api-key", "content-type", "content-encoding", "accept")


class Client(NamedTuple):
    """A client: what to install, and which script drives it."""

    requirement: str
    package: str
    script: str


CLIENTS: Final = {
    "langfuse_5": Client("langfuse==5.*", "langfuse", "drive_langfuse.py"),
    "langfuse_4": Client("langfuse==4.*", "langfuse", "drive_langfuse.py"),
    "langfuse_3": Client("langfuse==3.15.*", "langfuse", "drive_langfuse.py"),
    "phoenix": Client("arize-phoenix-client==3.*", "arize-phoenix-client", "drive_phoenix.py"),
    "tensorzero": Client("tensorzero==2026.6.*", "tensorzero", "drive_tensorzero.py"),
    "mlflow": Client("mlflow-skinny==3.*", "mlflow-skinny", "drive_mlflow.py"),
}


class Recorder:
    """The application behind a socket; every exchange is kept, in order."""

    def __init__(self) -> None:
        self.exchanges: list[dict[str, Any]] = []
        self.site = Site()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Recorder:
        self._thread.start()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._pass_on()

            def do_POST(self) -> None:
                self._pass_on()

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                asked = recorder.send(self.command, self.path, headers, body)
                answer = asyncio.run_coroutine_threadsafe(asked, recorder._loop).result()
                self.send_response(answer.status_code)
                for name in ("content-type", "retry-after"):
                    if name in answer.headers:
                        self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: the exchanges are printed at the end."""

        return Handler

    async def send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        """Passes a request on to the application and keeps both sides of it."""
        kept: dict[str, str] = {name: headers[name] for name in KEPT_HEADERS if name in headers}
        async with self.site.client() as client:
            answer = await client.request(method, path, content=body, headers=kept)
        exchange: dict[str, Any] = {"method": method, "path": path, "headers": kept}
        try:
            exchange["body"] = body.decode()
        except UnicodeDecodeError:
            exchange["body_base64"] = base64.b64encode(body).decode()
        self.exchanges.append({**exchange, "status": answer.status_code, "answer": answer.text})
        return answer


def python_of(name: str, client: Client) -> Path:
    """The interpreter of a client's environment, which is made if it is not there."""
    folder = ENVIRONMENTS / name
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run(["uv", "venv", "-q", "--python", sys.executable, str(folder)], check=True)
    subprocess.run(["uv", "pip", "install", "-q", "--python", str(python), client.requirement], check=True)
    return python


def record(name: str) -> None:
    """Drives one client and writes what it sent. Raises CalledProcessError if it was not content."""
    client = CLIENTS[name]
    python = python_of(name, client)
    query = f"from importlib.metadata import version; print(version({client.package!r}))"
    version = subprocess.check_output([str(python), "-c", query], text=True).strip()
    with Recorder() as recorder:
        environment = {
            **{n: v for n, v in os.environ.items() if not re.search(r"proxy|LANGFUSE|PHOENIX", n, re.I)},
            "RATCHET_URL": recorder.url,
            "RATCHET_KEY": "acme-key",
            "NO_PROXY": "127.0.0.1",
        }
        script = Path(__file__).parent / client.script
        try:
            subprocess.run([str(python), str(script)], env=environment, check=True, timeout=120)
        except subprocess.CalledProcessError:
            print(json.dumps(recorder.exchanges, indent=1))
            raise
    document = {"client": f"{client.package} {version}", "exchanges": recorder.exchanges}
    GOLDEN.mkdir(parents=True, exist_ok=True)
    (GOLDEN / f"{name}.json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    print(name, document["client"], [(e["path"], e["status"]) for e in recorder.exchanges])


if __name__ == "__main__":
    for chosen in sys.argv[1:] or CLIENTS:
        record(chosen)
