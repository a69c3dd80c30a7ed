"""MLflow from PyPI, as `mlflow server` starts it: four workers, SQLite. Feedback is assessments on traces."""

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
from tests.bench.stack import BenchError

PACKAGE: Final = "mlflow"
_TRACES: Final = "/api/3.0/mlflow/traces"
_TIME: Final = "2026-01-01T00:00:00.000Z"


class MLflow:
    """See System."""

    name = "MLflow"
    setup = (
        "`mlflow server`, four workers as is its default; SQLite with a rollback journal and "
        "synchronous=FULL, so that each piece is written through to the disk"
    )
    #: The only one: its REST takes one assessment at a time.
    forms: tuple[Form, ...] = (
        Form(name="1 a request", each=1, request=f"POST {_TRACES}/{{trace_id}}/assessments"),
    )

    def __init__(self, programs: Path, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._programs = programs
        self._database = directory / "mlflow.db"
        self._server = Server(
            [str(programs / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port)],
            directory,
            {"MLFLOW_DISABLE_TELEMETRY": "true"},
            f"{self.url}/health",
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
        """See System: one trace each, without spans, as its client registers them."""
        with httpx.Client(base_url=self.url, timeout=60) as client:
            for number in range(targets):
                trace = {
                    "trace_id": _trace_id(number),
                    "trace_location": {
                        "type": "MLFLOW_EXPERIMENT",
                        "mlflow_experiment": {"experiment_id": "0"},
                    },
                    "request_time": _TIME,
                    "execution_duration": "1s",
                    "state": "OK",
                    "request_preview": f"question {number}",
                }
                answer = client.post(_TRACES, json={"trace": {"trace_info": trace}})
                if answer.status_code != 200:
                    raise BenchError(
                        f"expected 200 for a trace, got {answer.status_code}: {answer.text[:500]}"
                    )

    def requests(self, form: Form, feedback: Sequence[Feedback]) -> list[Request]:
        """See System. The feedback's id is in the assessment's metadata; MLflow makes an id of its own."""
        made = []
        for one in feedback:
            trace_id = _trace_id(one.target)
            assessment = {
                "assessment_name": "thumb",
                "trace_id": trace_id,
                "source": {"source_type": "HUMAN", "source_id": "somebody"},
                "create_time": _TIME,
                "last_update_time": _TIME,
                "feedback": {"value": one.up},
                "rationale": one.comment,
                "metadata": {"feedback_id": one.id},
                "valid": True,
            }
            wire = request_bytes(
                "POST",
                f"{self.url}{_TRACES}/{trace_id}/assessments",
                "Bearer none",
                json.dumps({"assessment": assessment}).encode(),
                "application/json",
            )
            made.append(Request(wire, (one.id,)))
        return made

    def acknowledged(self, status: int, body: bytes) -> bool:
        """See System."""
        return status == 200

    def stored(self, run: str) -> Counter[str]:
        """See System."""
        rows = read_sqlite(
            self._database,
            "SELECT json_extract(assessment_metadata, '$.feedback_id') AS id FROM assessments "
            "WHERE id LIKE ?",
            f"{run}-%",
        )
        return Counter(row[0] for row in rows)


def _trace_id(number: int) -> str:
    return f"tr-{target_id(number, 32)}"


@contextmanager
def running_mlflow(parent: Path) -> Iterator[MLflow]:
    """MLflow, installed if need be, in a fresh directory; both are gone after the block.

    If the block ends with an error, the directory, with the server's log, is left.
    """
    programs = install(PACKAGE, "mlflow")
    directory = Path(tempfile.mkdtemp(prefix="run-mlflow-", dir=parent)).resolve()
    mlflow = MLflow(programs, directory)
    try:
        mlflow.start()
        yield mlflow
    finally:
        mlflow.stop()
    shutil.rmtree(directory)
