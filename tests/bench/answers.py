"""How fast is answered: `GET /v1/serving` at 500/s, `POST /v1/search` over 385 documents."""

from __future__ import annotations

from contextlib import suppress

import httpx
from msgspec import Struct

from infra.local.tcp_ports import allocate_ports
from tests.bench.figures import Figure, Result
from tests.bench.load import LoadReport
from tests.bench.plain_search import Searched
from tests.bench.stack import (
    BenchError,
    Stack,
    command_text,
    run_program,
    running_program,
    running_stack,
    wait_for,
)
from tests.bench.traffic import BATCH, document_batch, documents

RATE = 500


class Sizes(Struct, frozen=True):
    """How much is asked."""

    repetitions: int
    serving_requests: int
    searches: int


FULL = Sizes(3, 10_000, 500)
QUICK = Sizes(1, 500, 20)


def measure(*, quick: bool) -> Result:
    """Load the documents, wait until they are found, ask."""
    sizes = QUICK if quick else FULL
    with running_stack("answers", learn=True) as stack:
        _load_documents(stack)
        port = allocate_ports(stack.data / "sketch", ("plain",))["plain"]
        with running_program(
            "tests.bench.plain_door", "--bootstrap", stack.bootstrap, "--port", str(port), "--key", stack.key
        ):
            serving, plain = (
                [_ask(stack, url, *_serving(sizes)) for _ in range(sizes.repetitions)]
                for url in (stack.api_url, f"http://127.0.0.1:{port}")
            )
        _ask(stack, stack.search_url, *_search(10))
        search = [_ask(stack, stack.search_url, *_search(sizes.searches)) for _ in range(sizes.repetitions)]
    sketch = run_program("tests.bench.plain_search", "--searches", str(sizes.searches), into=Searched)
    return Result(
        name="answers",
        figures=(
            Figure(
                name="GET /v1/serving at 500/s, p99",
                unit="ms",
                target=10,
                better="lower",
                values=tuple(report.latency.p99_ms for report in serving),
                sketch=tuple(report.latency.p99_ms for report in plain),
                sketch_is="Litestar that answers a constant after a key check",
            ),
            Figure(
                name=f"POST /v1/search over {len(documents())} documents, p50",
                unit="ms",
                target=30,
                better="lower",
                values=tuple(report.latency.p50_ms for report in search),
                sketch=(sketch.latency.p50_ms,),
                sketch_is="the model and a matrix product in one loop: no HTTP, no BM25, no report",
            ),
        ),
        commands=tuple(
            command_text("tests.bench.load", "--url", "URL", "--key", "KEY", *arguments)
            for arguments in (_serving(sizes), _search(sizes.searches))
        ),
        cores_used={
            "generator, serving": serving[-1].cpu_s / serving[-1].seconds,
            "generator, search": search[-1].cpu_s / search[-1].seconds,
        },
        details={"serving": serving, "serving_sketch": plain, "search": search, "search_sketch": sketch},
    )


def _serving(sizes: Sizes) -> tuple[str, ...]:
    return (
        *("--kind", "serving", "--connections", "32"),
        *("--requests", str(sizes.serving_requests), "--rate", str(RATE)),
    )


def _search(searches: int) -> tuple[str, ...]:
    return ("--kind", "search", "--connections", "1", "--requests", str(searches))


def _ask(stack: Stack, url: str, *arguments: str) -> LoadReport:
    report = run_program("tests.bench.load", "--url", url, "--key", stack.key, *arguments, into=LoadReport)
    if report.statuses != {"200": report.requests}:
        raise BenchError(f"expected {report.requests} answers of 200 from {url}, got {report.statuses}")
    return report


def _load_documents(stack: Stack) -> None:
    """Send all documents and wait until the last is the first hit for its own text."""
    headers = {"authorization": f"Bearer {stack.key}", "content-type": BATCH}
    sent = httpx.post(f"{stack.api_url}/v1/events", content=document_batch(), headers=headers, timeout=60)
    if sent.status_code != 202:
        raise BenchError(f"expected 202 for the documents, got {sent.status_code}: {sent.text[:500]}")
    body = {"text": documents()[-1], "k": 10, "explore": False}

    def found() -> bool:
        with suppress(httpx.TransportError):
            answer = httpx.post(
                f"{stack.search_url}/v1/search",
                json=body,
                headers={"authorization": f"Bearer {stack.key}"},
                timeout=30,
            )
            if answer.status_code == 200:
                hits = answer.json()["hits"]
                return len(hits) == 10 and hits[0]["text"] == documents()[-1]
        return False

    wait_for("finding the last document", found, 180.0, every_s=0.5)
