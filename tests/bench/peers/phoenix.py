"""Arize Phoenix from PyPI, as `phoenix serve` starts it; feedback is span annotations."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx

from tests.bench.connection import request_bytes
from tests.bench.peers.environments import install, version_of
from tests.bench.peers.server import Server, free_port, read_sqlite
from tests.bench.peers.system import Feedback, Form, Request, target_id
from tests.bench.stack import BenchError, wait_for

PACKAGE: Final = "arize-phoenix"
_QUEUED: Final = "/v1/span_annotations"
_SYNC: Final = "/v1/span_annotations?sync=true"
_SPANS: Final = "/v1/projects/default/spans"


class Phoenix:
    """See System."""

    name = "Phoenix"
    setup = (
        "`phoenix serve`, one process; SQLite with WAL and synchronous=OFF as it sets it; annotations are "
        "queued in memory unless a request says ?sync=true (its client's default is the queue)"
    )
    forms: tuple[Form, ...] = (
        Form(name="1 a request", each=1, request=f"POST {_QUEUED}"),
        Form(name="1 a request, sync", each=1, request=f"POST {_SYNC}"),
        Form(name="100 a request", each=100, request=f"POST {_QUEUED}"),
        Form(name="100 a request, sync", each=100, request=f"POST {_SYNC}"),
    )

    def __init__(self, programs: Path, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._programs = programs
        self._database = directory / "phoenix.db"
        self._server = Server(
            [str(programs / "phoenix"), "serve"],
            directory,
            {
                "PHOENIX_WORKING_DIR": str(directory),
                "PHOENIX_HOST": "127.0.0.1",
                "PHOENIX_PORT": str(port),
                "PHOENIX_GRPC_PORT": str(free_port()),
                "PHOENIX_TELEMETRY_ENABLED": "false",
            },
            f"{self.url}/healthz",
        )
        self.arm, self.kill = self._server.arm, self._server.kill

    def version(self) -> str:
        """See System."""
        return version_of(self._programs, PACKAGE)

    def start(self) -> None:
        """Start it. Raises BenchError."""
        self._server.start()

    def stop(self) -> None:
        """Stop it."""
        self._server.stop()

    def restart(self) -> None:
        """See System."""
        self._server.gone()
        self._server.start()

    def prepare(self, targets: int) -> None:
        """See System: one span of one trace each, by Phoenix's own REST."""
        spans = [
            {
                "name": "answer a question",
                "context": {"trace_id": target_id(number, 32), "span_id": target_id(number, 16)},
                "span_kind": "CHAIN",
                "start_time": "2026-01-01T00:00:00Z",
                "end_time": "2026-01-01T00:00:01Z",
                "status_code": "OK",
                "attributes": {"input.value": f"question {number}"},
            }
            for number in range(targets)
        ]
        answer = httpx.post(self.url + _SPANS, json={"data": spans}, timeout=60)
        if answer.status_code != 202:
            raise BenchError(
                f"expected 202 for Phoenix's spans, got {answer.status_code}: {answer.text[:500]}"
            )
        wait_for(
            "the spans in Phoenix",
            lambda: self._rows("SELECT count(*) FROM spans")[0][0] == str(targets),
            60,
        )

    def requests(self, form: Form, feedback: Sequence[Feedback]) -> list[Request]:
        """See System. The feedback's id is the annotation's `identifier`: Phoenix stores each id once."""
        made = []
        for start in range(0, len(feedback), form.each):
            group = feedback[start : start + form.each]
            data = [
                {
                    "name": "thumb",
                    "annotator_kind": "HUMAN",
                    "span_id": target_id(one.target, 16),
                    "identifier": one.id,
                    "result": {
                        "label": "up" if one.up else "down",
                        "score": 1 if one.up else -1,
                        "explanation": one.comment,
                    },
                }
                for one in group
            ]
            wire = request_bytes(
                "POST",
                self.url + form.request.removeprefix("POST "),
                "Bearer none",
                json.dumps({"data": data}).encode(),
                "application/json",
            )
            made.append(Request(wire, tuple(one.id for one in group)))
        return made

    def acknowledged(self, status: int, body: bytes) -> bool:
        """See System."""
        return status == 200

    def stored(self, run: str) -> Counter[str]:
        """See System."""
        rows = self._rows("SELECT identifier FROM span_annotations WHERE identifier LIKE ?", f"{run}-%")
        return Counter(row[0] for row in rows)

    def _rows(self, statement: str, *values: str) -> list[list[str]]:
        """Raises NotReadable."""
        return read_sqlite(self._database, statement, *values)


@contextmanager
def running_phoenix(parent: Path) -> Iterator[Phoenix]:
    """Phoenix, installed if need be, in a fresh directory; both are gone after the block.

    If the block ends with an error, the directory, with the server's log, is left.
    """
    programs = install(PACKAGE, "phoenix")
    directory = Path(tempfile.mkdtemp(prefix="run-phoenix-", dir=parent)).resolve()
    phoenix = Phoenix(programs, directory)
    try:
        phoenix.start()
        yield phoenix
    finally:
        phoenix.stop()
    shutil.rmtree(directory)
