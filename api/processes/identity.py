"""The clock, the ids and the version of a process: what domain code gets as arguments."""

from __future__ import annotations

import datetime as dt
import os
import time
from functools import cache
from importlib.metadata import PackageNotFoundError, version

from schemas.ids import uuid7


def now() -> dt.datetime:
    """The present, UTC."""
    return dt.datetime.now(dt.UTC)


def mint_id() -> str:
    """A fresh UUIDv7."""
    return uuid7(time.time_ns() // 1_000_000, os.urandom(10))


@cache
def code_version() -> str:
    """The version of this code, as installed."""
    try:
        return version("ratchet-platform")
    except PackageNotFoundError:
        return "unknown"
