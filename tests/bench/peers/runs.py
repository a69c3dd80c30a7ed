"""The two runs of a form: how fast feedback is acknowledged, and what a killed system still has of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from statistics import median

from msgspec import Struct

from tests.bench.load import Latency
from tests.bench.peers.sending import Kill, Sent, send
from tests.bench.peers.system import Form, NotReadable, System, make_feedback
from tests.bench.stack import BenchError

_POLL_S = 0.2


class Sizes(Struct, frozen=True, kw_only=True):
    """How much is sent, the same to all."""

    #: Pieces of feedback in a run of one a request.
    items: int
    #: The same in a run of many a request.
    items_in_batches: int
    #: Queries that they are about.
    targets: int
    connections: int
    repetitions: int
    #: A count that has not changed for so long is taken as final.
    quiet_s: float

    def items_of(self, form: Form) -> int:
        """Pieces of feedback in a run of this form."""
        return self.items if form.each == 1 else self.items_in_batches


class Stored(Struct, frozen=True):
    """What of some acknowledged feedback is in the store, and how long that took to be final."""

    kept: int
    #: Rows beyond the first of an id.
    doubled: int
    #: Stored though its answer never came; an application would send it again.
    unasked: int
    after_s: float


class Undisturbed(Struct, frozen=True, kw_only=True):
    """A run without a kill."""

    acknowledged: int
    acknowledged_per_s: float
    refused: dict[str, int]
    #: Requests whose connection the system closed without an answer.
    unanswered: int
    latency: Latency
    generator_cores: float
    stored: Stored


class Killed(Struct, frozen=True, kw_only=True):
    """A run in whose middle all processes were killed and started again."""

    acknowledged: int
    acknowledged_per_s: float
    #: Acknowledged, and still there after the restart, for each second of sending.
    durable_per_s: float
    refused: dict[str, int]
    unanswered: int
    restart_s: float
    stored: Stored


class Outcome(Struct, frozen=True, kw_only=True):
    """All runs of one form of one system."""

    system: str
    form: Form
    undisturbed: tuple[Undisturbed, ...]
    killed: tuple[Killed, ...]

    @property
    def acknowledged_per_s(self) -> float:
        """Median of the undisturbed runs."""
        return median(run.acknowledged_per_s for run in self.undisturbed)

    @property
    def stored_after_s(self) -> float:
        """Median of the undisturbed runs: from the last answer until all of it can be read."""
        return median(run.stored.after_s for run in self.undisturbed)

    @property
    def durable_per_s(self) -> float:
        """Median of the killed runs."""
        return median(run.durable_per_s for run in self.killed)

    @property
    def durable_share(self) -> float:
        """Of all that was acknowledged before a kill, what was there after it."""
        return sum(run.stored.kept for run in self.killed) / sum(run.acknowledged for run in self.killed)


def measure(system: System, form: Form, sizes: Sizes) -> Outcome:
    """Warm up, then the undisturbed and the killed runs. Raises BenchError."""
    _undisturbed(system, form, sizes, max(form.each, sizes.items_of(form) // 20))
    return Outcome(
        system=system.name,
        form=form,
        undisturbed=tuple(
            _undisturbed(system, form, sizes, sizes.items_of(form)) for _ in range(sizes.repetitions)
        ),
        killed=tuple(_killed(system, form, sizes) for _ in range(sizes.repetitions)),
    )


def _undisturbed(system: System, form: Form, sizes: Sizes, items: int) -> Undisturbed:
    run = _new_run()
    sent = send(
        system.url,
        system.requests(form, make_feedback(run, items, sizes.targets)),
        connections=sizes.connections,
        acknowledges=system.acknowledged,
    )
    if not sent.acknowledged:
        raise BenchError(f"{system.name} acknowledged nothing of {form.request}; its answers: {sent.refused}")
    return Undisturbed(
        acknowledged=len(sent.acknowledged),
        acknowledged_per_s=sent.acknowledged_per_s,
        refused=sent.refused,
        unanswered=sent.unanswered,
        latency=sent.latency,
        generator_cores=sent.cpu_s / sent.seconds,
        stored=_count(system, run, sent, sizes.quiet_s),
    )


def _killed(system: System, form: Form, sizes: Sizes) -> Killed:
    run = _new_run()
    requests = system.requests(form, make_feedback(run, sizes.items_of(form), sizes.targets))
    system.arm()
    sent = send(
        system.url,
        requests,
        connections=sizes.connections,
        acknowledges=system.acknowledged,
        kill=Kill(max(1, len(requests) // 2), system.kill),
    )
    began = time.perf_counter()
    system.restart()
    restart_s = time.perf_counter() - began
    stored = _count(system, run, sent, sizes.quiet_s)
    return Killed(
        acknowledged=len(sent.acknowledged),
        acknowledged_per_s=sent.acknowledged_per_s,
        durable_per_s=stored.kept / sent.seconds,
        refused=sent.refused,
        unanswered=sent.unanswered,
        restart_s=restart_s,
        stored=stored,
    )


def _count(system: System, run: str, sent: Sent, quiet_s: float) -> Stored:
    """Poll until all that was acknowledged is there, or what is there has not changed for `quiet_s`."""
    began = changed = time.perf_counter()
    acknowledged = set(sent.acknowledged)
    found: Counter[str] = Counter()
    trouble = ""
    while not acknowledged <= found.keys():
        try:
            now = system.stored(run)
        except NotReadable as error:
            now, trouble = found, str(error)
        if now != found:
            found, changed = now, time.perf_counter()
        elif time.perf_counter() - changed > quiet_s:
            break
        time.sleep(_POLL_S)
    if not found and trouble:
        raise BenchError(f"what {system.name} has stored could not be read: {trouble}")
    return Stored(
        kept=len(acknowledged & found.keys()),
        doubled=found.total() - len(found),
        unasked=len(found.keys() - acknowledged),
        after_s=round(changed - began, 3),
    )


def _new_run() -> str:
    return os.urandom(6).hex()
