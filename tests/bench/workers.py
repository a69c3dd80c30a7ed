"""CPU of the stream workers for an event: one, two and four of them over the same log.

CPU, not seconds: on a machine without free cores more workers are no faster, and must only cost no more. The
workers run and have their partitions before anything is sent, and the doors are faster than they are: so they
work through a backlog, and neither starting nor waiting is counted.
"""

from __future__ import annotations

import re
import statistics
import time
from typing import Final

import httpx
from msgspec import Struct

from api.cli.lag import read_lag
from api.cli.project import Project, http_url
from api.settings import HttpSettings
from tests.bench.figures import Figure, Result
from tests.bench.load import LoadReport
from tests.bench.stack import (
    BenchError,
    InThread,
    Stack,
    command_text,
    cpu_seconds,
    run_program,
    running_stack,
    wait_for,
)

MOST: Final = 4
#: After the last worker is ready: partitions have found their workers.
_REST_S: Final = 3.0
_LIMIT_S: Final = 300.0
_MESSAGES: Final = re.compile(r'^ratchet_stream_messages_total\{topic="interactions"\} (\S+)', re.MULTILINE)


class Sizes(Struct, frozen=True):
    """How much is folded, in requests of 100."""

    repetitions: int
    requests: int


FULL = Sizes(3, 1000)
QUICK = Sizes(1, 60)


class Round(Struct, frozen=True):
    """So many workers over one backlog."""

    workers: int
    events: int
    #: Of all workers, from before the first event is sent until the last one is committed.
    cpu_s: float
    #: How the events fell to the workers.
    shares: tuple[int, ...]

    @property
    def cpu_us_an_event(self) -> float:
        """Microseconds of CPU for an event."""
        return 1e6 * self.cpu_s / self.events


def measure(*, quick: bool) -> Result:
    """Rounds of one, two and four workers in turn, so that what the store grows by falls on all alike."""
    sizes = QUICK if quick else FULL
    rounds: dict[int, list[Round]] = {1: [], 2: [], MOST: []}
    with running_stack("workers", settings=f"[streams]\nworkers = {MOST}\n") as stack:
        ports = worker_ports(stack)
        _stop(stack, ports)
        for _ in range(sizes.repetitions):
            for number, done in rounds.items():
                done.append(_round(stack, ports, number, sizes.requests))
    one = statistics.median(each.cpu_us_an_event for each in rounds[1])
    return Result(
        name="workers",
        figures=tuple(
            Figure(
                name=f"CPU for an event, {number} workers, as a multiple of one worker's",
                unit="×",
                target=1.25,
                better="lower",
                values=tuple(each.cpu_us_an_event / one for each in rounds[number]),
            )
            for number in rounds
            if number > 1
        ),
        commands=(command_text("tests.bench.load", *_load("URL", "KEY", sizes.requests)),),
        details={"rounds": rounds, "cpu_us_an_event_of_one": one},
    )


def worker_ports(stack: Stack) -> dict[str, int]:
    """Worker → the port of its figures."""
    project = Project(stack.data.parent)
    more = project.files.ports.read_text()
    found = {"streams": project.settings.streams_http.port}
    return found | {name: int(port) for name, port in re.findall(r'"(streams-\d+)":\s*(\d+)', more)}


def _round(stack: Stack, ports: dict[str, int], number: int, requests: int) -> Round:
    names = _start(stack, ports, number)
    time.sleep(_REST_S)
    cpu, shares = _cpu(stack, names), [_messages(ports[name]) for name in names]
    sent = run_program("tests.bench.load", *_load(stack.api_url, stack.key, requests), into=LoadReport)
    if sent.statuses != {"202": requests}:
        raise BenchError(f"expected {requests} answers of 202, got {sent.statuses}")
    settings = Project(stack.data.parent).settings
    wait_for("the last commit", lambda: read_lag(settings) == 0, _LIMIT_S, every_s=0.2)
    cpu = _cpu(stack, names) - cpu
    done = tuple(_messages(ports[name]) - before for name, before in zip(names, shares, strict=True))
    _stop(stack, ports)
    if sum(done) < sent.events:
        raise BenchError(f"expected {sent.events} records folded by {number} workers, they say {done}")
    return Round(number, sent.events, cpu, done)


def _start(stack: Stack, ports: dict[str, int], number: int) -> list[str]:
    """The first so many workers, at once."""
    names = list(ports)[:number]
    starting = [InThread(lambda name=name: stack.start(name)) for name in names]  # type: ignore[misc]
    for one in starting:
        one.done()
    return names


def _stop(stack: Stack, ports: dict[str, int]) -> None:
    for name in reversed(ports):
        stack.stop(name)


def _cpu(stack: Stack, names: list[str]) -> float:
    pids = stack.pids()
    return sum(cpu_seconds(pids[name]) for name in names)


def _messages(port: int) -> int:
    text = httpx.get(f"{http_url(HttpSettings(port=port))}/metrics").text
    found = _MESSAGES.search(text)
    return int(float(found[1])) if found else 0


def _load(url: str, key: str, requests: int) -> tuple[str, ...]:
    return (
        *("--url", url, "--key", key, "--each", "100", "--connections", "16"),
        *("--requests", str(requests)),
    )
