"""What a client knows of its events, on disk before it goes on: the truth that tables are compared with.

Each line is an array, flushed with fsync: `["sent", request, [[query_id, id, hash, type], …]]` before a
request goes out, `["answered", request, {index: status}]` when an answer came, `["problem", request, text]`
when one came that nobody should give. `hash` is the content hash; '' marks what the door has to refuse.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """An event as a client sent it."""

    query_id: str
    id: str
    #: Content hash; '' if it is invalid.
    hash: str
    type: str


class Ledger:
    """The writing end; one a client."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def sent(self, request: int, events: Sequence[Sent]) -> None:
        """Before the first attempt of a request."""
        self._write(["sent", request, events])

    def answered(self, request: int, statuses: Mapping[int, str]) -> None:
        """The states of events that an answer names."""
        self._write(["answered", request, statuses])

    def problem(self, request: int, text: str) -> None:
        """An answer that breaks a promise."""
        self._write(["problem", request, text])

    def _write(self, line: Any) -> None:
        os.write(self._file, json.dumps(line).encode() + b"\n")
        os.fsync(self._file)


#: source, query_id, id
Identity = tuple[str, str, str]


class Truth:
    """What all clients know together."""

    def __init__(self) -> None:
        #: Identity → content hashes in the order in which they were first sent.
        self.sent: dict[Identity, list[str]] = {}
        #: Identity and content hash.
        self.acknowledged: set[tuple[Identity, str]] = set()
        #: Identities of invalid events whose refusal was acknowledged, and of all that were sent.
        self.refused: set[Identity] = set()
        self.invalid: set[Identity] = set()
        #: Identity → the content that was acknowledged before another was sent: it must be the event.
        self.first: dict[Identity, str] = {}
        self.types: dict[Identity, str] = {}
        self.requests = 0
        self.problems: list[str] = []

    def read(self, path: Path, source: str) -> None:
        """Take the ledger of the client with this source. A torn last line is none."""
        requests: dict[int, list[Sent]] = {}
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            what, request, content = json.loads(line)
            if what == "sent":
                requests[request] = [Sent(*event) for event in content]
                for event in requests[request]:
                    self._take_sent(source, event)
            elif what == "answered":
                for index, status in content.items():
                    self._take_answer(source, requests[request][int(index)], status)
            else:
                self.problems.append(f"{source} request {request}: {content}")
        self.requests += len(requests)

    def _take_sent(self, source: str, event: Sent) -> None:
        identity = (source, event.query_id, event.id)
        self.types[identity] = event.type
        if not event.hash:
            self.invalid.add(identity)
            return
        known = self.sent.setdefault(identity, [])
        if event.hash not in known:
            known.append(event.hash)

    def _take_answer(self, source: str, event: Sent, status: str) -> None:
        identity = (source, event.query_id, event.id)
        if status == "accepted" and event.hash:
            self.acknowledged.add((identity, event.hash))
            if len(self.sent[identity]) == 1:
                self.first.setdefault(identity, event.hash)
        elif status == "rejected" and not event.hash:
            self.refused.add(identity)
        elif status in ("accepted", "rejected"):
            expected = "accepted" if event.hash else "rejected"
            self.problems.append(f"{source}: {event.id} is {status}, expected {expected}")
