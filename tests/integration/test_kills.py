"""Each process of a living stack is killed once while events come in; afterwards the counts still add up."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from ratchet_client import Ratchet
from ratchet_client.errors import ClientError

from tests.integration.conftest import LiveStack
from tests.live_services import wait_for

pytestmark = [pytest.mark.service, pytest.mark.timeout(400)]
SOURCE = "urn:test:kills"
#: Dependents are killed, too, when what they follow goes away; `running` again within this time.
BACK_S = 90.0


class Traffic(threading.Thread):
    """Sends queries, lists and clicks until told to stop, and keeps the ids that were acknowledged."""

    def __init__(self, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self._client = Ratchet(url, key, source=SOURCE)
        self._told = threading.Event()
        self.acknowledged: set[str] = set()
        self.unknown: set[str] = set()

    def run(self) -> None:
        number = 0
        while not self._told.is_set():
            number += 1
            events = self._events(number)
            ids = {str(event["id"]) for event in events}
            try:
                self._client.send(events)
                self.acknowledged |= ids
            except ClientError:
                # not known: it may be in the log or not
                self.unknown |= ids

    def _events(self, number: int) -> list[dict[str, object]]:
        query = f"kill-{number}"
        data: dict[str, dict[str, object]] = {
            "query.asked": {"query_id": query, "text": f"question {number}", "user": f"u{number % 50}"},
            "retrieval.served": {
                "query_id": query,
                "retrieval_id": f"r-{query}",
                "hits": [{"document_id": "a", "rank": 1}, {"document_id": "b", "rank": 2}],
            },
            "feedback.given": {
                "query_id": query,
                "kind": "click",
                "target": {"kind": "document", "document_id": "b"},
            },
        }
        return [
            {"id": f"{query}-{kind}", "type": f"ratchet.{kind}.v1", "data": payload}
            for kind, payload in data.items()
        ]

    def stop(self) -> None:
        self._told.set()
        self.join(60)
        self._client.close()


@contextmanager
def traffic(stack: LiveStack) -> Iterator[Traffic]:
    """Traffic for the length of the block."""
    status = stack.status()
    sender = Traffic(status["api"]["url"], status["api"]["key"])
    sender.start()
    try:
        yield sender
    finally:
        sender.stop()


def process(stack: LiveStack, name: str) -> dict[str, object]:
    """What `status` says of a process."""
    return next(p for p in stack.status()["processes"] if p["name"] == name)


KINDS = ("query.asked", "retrieval.served", "feedback.given")


def test_every_process_killed_once_and_nothing_is_lost_or_doubled(stack: LiveStack) -> None:
    with traffic(stack) as sender:
        for name in ("api", "streams", "clickhouse", "kafka", "search", "learner"):
            wait_for("some traffic", more_than(sender, len(sender.acknowledged) + 30), limit_s=60)
            pid = process(stack, name)["pid"]
            assert isinstance(pid, int)
            os.kill(pid, signal.SIGKILL)
            wait_for(f"{name} under another pid", partial(back, stack, name, pid), limit_s=BACK_S)
        wait_for("a healthy stack", lambda: bool(stack.status()["healthy"]), limit_s=BACK_S)
    assert len(sender.acknowledged) > 200

    def stored() -> list[str]:
        rows = stack.sql(f"SELECT event_id FROM events WHERE source = '{SOURCE}'")
        return [row["event_id"] for row in rows]

    deadline = time.monotonic() + 60
    while sender.acknowledged - set(found := stored()):
        assert time.monotonic() < deadline, f"lost: {sorted(sender.acknowledged - set(found))[:10]}"
    assert len(found) == len(set(found)), "an event is there twice"
    assert set(found) <= sender.acknowledged | sender.unknown

    queries = {event.removesuffix(f"-{kind}") for event in sender.acknowledged for kind in KINDS}
    whole = [query for query in queries if {f"{query}-{kind}" for kind in KINDS} <= sender.acknowledged]
    rows = stack.sql("SELECT query_id, clicks FROM episodes WHERE startsWith(query_id, 'kill-')")
    clicks = {row["query_id"]: int(row["clicks"]) for row in rows}
    assert {query: clicks.get(query) for query in whole if clicks.get(query) != 1} == {}
    doubled = stack.sql(
        "SELECT query_id FROM pairs WHERE startsWith(query_id, 'kill-') AND label = 1"
        " GROUP BY query_id HAVING count() != 1"
    )
    assert doubled == []


def more_than(sender: Traffic, number: int) -> Callable[[], bool]:
    """Whether more events than this were acknowledged."""
    return lambda: len(sender.acknowledged) > number


def back(stack: LiveStack, name: str, pid: int) -> bool:
    """The process runs again, is ready, and is another one."""
    found = process(stack, name)
    return bool(found["ready"]) and found["pid"] != pid
