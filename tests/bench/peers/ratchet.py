"""Ratchet itself: the stack of `ratchet up --no-learn` (API, Kafka, worker, ClickHouse engine, search)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from typing import Final

import httpx
import psutil

from infra.local import stack as local_stack
from tests.bench.connection import request_bytes
from tests.bench.peers.server import family, kill_all
from tests.bench.peers.system import Feedback, Form, NotReadable, Request, target_id
from tests.bench.stack import TENANT, BenchError, Stack, running_stack, wait_for
from tests.bench.traffic import BATCH

_SHORTCUT: Final = "POST /v1/feedback"
_EVENTS: Final = "POST /v1/events"
_RESTART_S = 300.0


class Ratchet:
    """See System."""

    name = "Ratchet"
    setup = (
        "`ratchet up --no-learn`: API, one Kafka node, worker, ClickHouse engine, search; a record is "
        "acknowledged when Kafka has it (acks=all), which writes to the page cache, not through to the disk"
    )
    forms: tuple[Form, ...] = (
        Form(name="1 a request", each=1, request=_SHORTCUT),
        Form(name="100 a request", each=100, request=_EVENTS),
    )

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self.url = stack.api_url
        self._authorization = f"Bearer {stack.key}"
        self._armed: list[psutil.Process] = []

    def version(self) -> str:
        """See System."""
        return version("ratchet-platform")

    def prepare(self, targets: int) -> None:
        """See System: queries, by events."""
        for start in range(0, targets, 100):
            queries = [
                {
                    "specversion": "1.0",
                    "id": f"query-{number}",
                    "source": "urn:bench:peers",
                    "type": "ratchet.query.asked.v1",
                    "data": {"query_id": target_id(number, 32), "text": f"question {number}"},
                }
                for number in range(start, min(start + 100, targets))
            ]
            answer = httpx.post(
                f"{self.url}/v1/events",
                content=json.dumps(queries),
                headers={"authorization": self._authorization, "content-type": BATCH},
                timeout=60,
            )
            if answer.status_code != 202:
                raise BenchError(f"expected 202 for queries, got {answer.status_code}: {answer.text[:500]}")

    def requests(self, form: Form, feedback: Sequence[Feedback]) -> list[Request]:
        """See System. The feedback's id is the event's."""
        made = []
        path = form.request.removeprefix("POST ")
        for start in range(0, len(feedback), form.each):
            group = feedback[start : start + form.each]
            body: object
            if form.request == _SHORTCUT:
                body, kind = {"id": group[0].id, **_data(group[0])}, "application/json"
            else:
                body, kind = [_event(one) for one in group], BATCH
            wire = request_bytes(
                "POST", self.url + path, self._authorization, json.dumps(body).encode(), kind
            )
            made.append(Request(wire, tuple(one.id for one in group)))
        return made

    def acknowledged(self, status: int, body: bytes) -> bool:
        """See System: 207 would say that some were not."""
        return status == 202

    def arm(self) -> None:
        """See System: all but the supervisor, which then starts them again as after any crash."""
        self._armed = family(pid for name, pid in self._stack.pids().items() if name != "supervisor")

    def kill(self) -> None:
        """See System."""
        kill_all(self._armed)

    def restart(self) -> None:
        """See System."""
        killed = {process.pid for process in self._armed}

        def is_back() -> bool:
            processes = local_stack.status(self._stack.data).processes
            if failed := [one for one in processes if one.state == "failed"]:
                raise BenchError(f"{failed[0].name} {failed[0].reason}; its log is {failed[0].log}")
            return all(one.ready and one.pid not in killed for one in processes)

        wait_for("the return of the stack", is_back, _RESTART_S, every_s=0.5)

    def stored(self, run: str) -> Counter[str]:
        """See System: in the view that analysts read."""
        statement = (
            f"SELECT event_id FROM ratchet.events WHERE tenant = '{TENANT}' "
            f"AND startsWith(event_id, '{run}-') FORMAT TabSeparated"
        )
        try:
            return Counter(self._stack.sql(statement).split())
        except httpx.HTTPError as error:
            raise NotReadable(str(error)) from error


def _data(one: Feedback) -> dict[str, object]:
    return {
        "query_id": target_id(one.target, 32),
        "kind": "thumb",
        "value": 1 if one.up else -1,
        "text": one.comment,
    }


def _event(one: Feedback) -> dict[str, object]:
    return {
        "specversion": "1.0",
        "id": one.id,
        "source": "urn:bench:peers",
        "type": "ratchet.feedback.given.v1",
        "data": _data(one),
    }


@contextmanager
def running_ratchet() -> Iterator[Ratchet]:
    """A stack of its own; ended, and its directory removed, with the block. Raises BenchError."""
    with running_stack("peers") as stack:
        yield Ratchet(stack)
