"""When to send again, and how long to wait before."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import httpx

#: Answers after which the same request may pass.
AGAIN = frozenset({429, 502, 503, 504})


@dataclass(frozen=True)
class Retries:
    """A bounded number of attempts; waits double, with jitter, and are never shorter than `Retry-After`."""

    attempts: int = 6
    first_wait_s: float = 0.2
    longest_wait_s: float = 10.0

    def wait_s(self, attempt: int, asked_s: float, random: Callable[[], float]) -> float:
        """Seconds to wait after attempt number `attempt` (1 is the first) failed."""
        wait: float = min(self.longest_wait_s, self.first_wait_s * 2 ** (attempt - 1))
        return max(wait * (0.5 + 0.5 * random()), min(asked_s, self.longest_wait_s))


def retry_after_s(response: httpx.Response, now: dt.datetime) -> float:
    """The `Retry-After` of an answer in seconds (RFC 9110 §10.2.3: seconds or a date); 0 without one."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0
