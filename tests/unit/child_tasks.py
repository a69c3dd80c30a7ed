"""Tasks for the tests of `learners.children`."""

from __future__ import annotations

import os
import sys
import time

from msgspec import Struct


class Number(Struct, frozen=True):
    """In and out."""

    value: int


def double(request: Number) -> Number:
    """Twice the value."""
    print("doubling")
    return Number(request.value * 2)


def fail(request: Number) -> Number:
    """An error that the parent must report."""
    raise ValueError(f"no luck with {request.value}")


def linger(request: Number) -> Number:
    """Never ends by itself; says its pid to a file first."""
    with open(os.environ["LINGER_PID"], "w") as file:  # noqa: PTH123
        file.write(str(os.getpid()))
    while True:
        time.sleep(60)


def hoard(request: Number) -> Number:
    """Takes `value` megabytes and keeps them."""
    held = bytearray(os.urandom(1) * (request.value << 20))
    time.sleep(60)
    return Number(sys.getsizeof(held))


class Text(Struct, frozen=True):
    """Something long."""

    value: str


def echo(request: Text) -> Text:
    """The same, and much output of every kind."""
    print(request.value[:1000])
    os.system("echo from a process of its own")
    return request


def vanish(request: Text) -> Text:
    """Ends well, but answers nothing."""
    os._exit(0)


def wait_passively(request: Number) -> Number:
    """1 if OpenMP threads of this process would wait without taking the processor."""
    return Number(int(os.environ.get("OMP_WAIT_POLICY") == "PASSIVE"))
