"""Durable ingest with the worker stopped: events/s at 100 a request, requests/s at one."""

from __future__ import annotations

from statistics import median

from msgspec import Struct

from infra.local.tcp_ports import allocate_ports
from tests.bench.figures import Figure, Result
from tests.bench.load import LoadReport
from tests.bench.stack import (
    BenchError,
    Stack,
    command_text,
    cpu_seconds,
    run_program,
    running_program,
    running_stack,
)

CONNECTIONS = 64
SKETCH = "Litestar and aiokafka: key check, msgspec, acks=all, an answer per event; no admission, no metrics"


class Sizes(Struct, frozen=True):
    """How much is sent."""

    repetitions: int
    requests_of_100: int
    requests_of_1: int
    #: Seconds at half rate.
    paced_s: int


FULL = Sizes(3, 4000, 20_000, 15)
QUICK = Sizes(1, 40, 300, 1)


def measure(*, quick: bool) -> Result:
    """Start a stack, stop its worker, send to the API and to the sketch in turn."""
    sizes = QUICK if quick else FULL
    with running_stack("ingest") as stack:
        stack.stop("streams")
        port = allocate_ports(stack.data / "sketch", ("plain",))["plain"]
        plain_url = f"http://127.0.0.1:{port}"
        with running_program(
            "tests.bench.plain_door", "--bootstrap", stack.bootstrap, "--port", str(port), "--key", stack.key
        ) as sketch:
            pids = {"api": stack.pids()["api"], "kafka": stack.pids()["kafka"], "sketch": sketch.pid}
            runs: dict[str, list[LoadReport]] = {}
            cores: dict[str, float] = {}
            for each, requests in ((100, sizes.requests_of_100), (1, sizes.requests_of_1)):
                for url in (stack.api_url, plain_url):
                    _send(stack, url, each, max(1, requests // 20))  # nobody's first requests count
                for _ in range(sizes.repetitions):
                    for url, who in ((stack.api_url, "api"), (plain_url, "sketch")):
                        before = {name: cpu_seconds(pid) for name, pid in pids.items()}
                        report = _send(stack, url, each, requests)
                        runs.setdefault(f"{who} {each}", []).append(report)
                        cores[f"{who} at {each}: generator"] = report.cpu_s / report.seconds
                        for name in ("kafka", who):
                            used = cpu_seconds(pids[name]) - before[name]
                            cores[f"{who} at {each}: {name}"] = used / report.seconds
            half = max(1, int(median(one.requests_per_s for one in runs["api 1"]) / 2))
            paced = [
                _send(stack, stack.api_url, 1, sizes.paced_s * half, rate=half)
                for _ in range(sizes.repetitions)
            ]
    return Result(
        name="ingest",
        figures=(
            Figure(
                name="durable ingest, 100 events a request",
                unit="events/s",
                target=30_000,
                better="higher",
                values=tuple(report.events_per_s for report in runs["api 100"]),
                sketch=tuple(report.events_per_s for report in runs["sketch 100"]),
                sketch_is=SKETCH,
            ),
            Figure(
                name="durable ingest, one event a request",
                unit="requests/s",
                target=3500,
                better="higher",
                values=tuple(report.requests_per_s for report in runs["api 1"]),
                sketch=tuple(report.requests_per_s for report in runs["sketch 1"]),
                sketch_is=SKETCH,
            ),
            Figure(
                name="the same at half of that rate, p99",
                unit="ms",
                target=25,
                better="lower",
                values=tuple(one.latency.p99_ms for one in paced),
            ),
        ),
        commands=tuple(
            command_text("tests.bench.load", *_arguments("URL", "KEY", each, requests))
            for each, requests in ((100, sizes.requests_of_100), (1, sizes.requests_of_1))
        ),
        cores_used=cores,
        details={
            "latency": {name: reports[-1].latency for name, reports in runs.items()},
            "paced": paced,
        },
    )


def _arguments(url: str, key: str, each: int, requests: int, rate: float = 0.0) -> tuple[str, ...]:
    return (
        *("--url", url, "--key", key, "--kind", "events", "--each", str(each)),
        *("--connections", str(CONNECTIONS), "--requests", str(requests), "--rate", str(rate)),
    )


def _send(stack: Stack, url: str, each: int, requests: int, *, rate: float = 0.0) -> LoadReport:
    """`rate`: requests a second; 0: as fast as they are answered."""
    arguments = _arguments(url, stack.key, each, requests, rate)
    report = run_program("tests.bench.load", *arguments, into=LoadReport)
    if report.statuses != {"202": requests}:
        raise BenchError(f"expected {requests} answers of 202 from {url}, got {report.statuses}")
    return report
