"""What every system is asked to do, and the feedback that all of them are sent."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct


class Feedback(Struct, frozen=True, kw_only=True):
    """A thumb of a person about one query, with a comment."""

    id: str
    #: Number of the query (span, trace) that it is about.
    target: int
    up: bool
    comment: str


class Form(Struct, frozen=True, kw_only=True):
    """One way to send feedback to a system."""

    name: str
    #: Pieces of feedback in a request.
    each: int
    #: As somebody would write it down: method and path.
    request: str


class Request(Struct, frozen=True):
    """A request as it goes over the wire, and the feedback in it."""

    wire: bytes
    ids: tuple[str, ...]


class System(Protocol):
    """A feedback store that can be started, sent to, killed and counted; used by one caller at a time."""

    name: str
    #: How its version, its process and its durability are set up, in a sentence.
    setup: str
    forms: tuple[Form, ...]

    @property
    def url(self) -> str:
        """Where it listens."""
        ...

    def version(self) -> str:
        """Of what is installed."""
        ...

    def prepare(self, targets: int) -> None:
        """Make the queries that feedback is about; returns when feedback on them is taken.

        Raises BenchError.
        """
        ...

    def requests(self, form: Form, feedback: Sequence[Feedback]) -> list[Request]:
        """The requests of all this feedback, ready to be written to a socket."""
        ...

    def acknowledged(self, status: int, body: bytes) -> bool:
        """Whether this answer says that everything in the request was taken."""
        ...

    def arm(self) -> None:
        """Find the processes that `kill` is to kill, so that it takes no time."""
        ...

    def kill(self) -> None:
        """SIGKILL to all processes of the system at once."""
        ...

    def restart(self) -> None:
        """Start again what was killed, on the same data; returns when it is ready. Raises BenchError."""
        ...

    def stored(self, run: str) -> Counter[str]:
        """Rows by feedback id in the table that its screens read, of ids that begin with `run`.

        Raises NotReadable while the store cannot be read.
        """
        ...


class NotReadable(Exception):
    """The store could not be read just now; it may be later."""


def make_feedback(run: str, count: int, targets: int) -> list[Feedback]:
    """`count` pieces with ids that begin with `run`, spread over the targets; every fourth is a no."""
    return [
        Feedback(
            id=f"{run}-{number:07d}",
            target=number % targets,
            up=number % 4 != 0,
            comment=f"the answer was about {'the card' if number % 2 else 'the transfer'} I asked for",
        )
        for number in range(count)
    ]


def target_id(number: int, characters: int) -> str:
    """The id of a target in hexadecimal digits, 16 (a span) or 32 (a trace, a query)."""
    return hashlib.sha256(f"target {number}".encode()).hexdigest()[:characters]
