"""Rate limits of keys: token buckets in this process, and the headers that tell of them.

Each process counts for itself: behind N replicas a key may send N times as much. Headers are those of
draft-ietf-httpapi-ratelimit-headers-03 (`RateLimit-Limit`, `-Remaining`, `-Reset`), which clients know;
later drafts fold them into one header that few read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from litestar.types import Message, Scope
from msgspec import Struct

from api.http.problems import Problem, retry_after
from ingest.ports import Grant, Limits

#: Where a request's buckets stand in its scope.
_STATE: Final = "ratchet_rates"


class Bucket:
    """Tokens that come at a rate and are kept up to those of one second (at least one).

    What costs more than the bucket can hold passes once it is full, and is paid off afterwards.
    """

    def __init__(self, unit: str, rate_per_s: float, now_s: float) -> None:
        self.unit = unit
        self.rate_per_s = rate_per_s
        self.size = max(1.0, rate_per_s)
        self._level = self.size
        self._at_s = now_s

    def take(self, cost: float, now_s: float) -> float:
        """Takes `cost` tokens and gives 0, or takes none and gives the seconds after which it may pass."""
        level = self.level(now_s)
        short = min(cost, self.size) - level
        # A hair less than whole is whole: the level is a sum of fractions.
        if short > 1e-9:
            return short / self.rate_per_s
        self._level, self._at_s = level - cost, now_s
        return 0.0

    def level(self, now_s: float) -> float:
        """Tokens there are now; below 0 while something is paid off."""
        return min(self.size, self._level + max(0.0, now_s - self._at_s) * self.rate_per_s)

    def headers(self, now_s: float) -> dict[str, str]:
        """The three headers: what fits in a second, what is left of it, seconds until it is whole."""
        level = self.level(now_s)
        return {
            "ratelimit-limit": str(math.floor(self.size)),
            "ratelimit-remaining": str(max(0, math.floor(level + 1e-9))),
            "ratelimit-reset": str(math.ceil((self.size - level) / self.rate_per_s - 1e-9)),
        }


class Buckets(Struct, frozen=True):
    """The buckets of a key; None where it has no limit."""

    requests: Bucket | None
    events: Bucket | None

    def scarcest(self, now_s: float) -> Bucket:
        """The one of which the least is left."""
        there = [bucket for bucket in (self.requests, self.events) if bucket is not None]
        return min(there, key=lambda bucket: bucket.level(now_s) / bucket.size)


class Rates:
    """The buckets of all keys with a limit. Costs nothing for a key without one."""

    def __init__(
        self,
        *,
        max_requests_per_s: float = 0.0,
        max_events_per_s: float = 0.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._defaults = max_requests_per_s, max_events_per_s
        self._by_default = bool(max_requests_per_s or max_events_per_s)
        self._clock_s = clock_s
        self._buckets: dict[tuple[str, str, Limits | None], Buckets | None] = {}

    def charge_request(self, grant: Grant, scope: Scope) -> None:
        """One request of this key. Raises Problem 429."""
        if grant.limits is None and not self._by_default:
            return
        buckets = self._of(grant)
        if buckets is None:
            return
        # `show` reads it; `Any`-typed by the framework.
        scope["state"][_STATE] = (buckets, self._clock_s)
        if buckets.requests is not None:
            self._charge(buckets.requests, 1)

    def charge_events(self, grant: Grant, number: int) -> None:
        """That many events of this key. Raises Problem 429; then none of them was taken."""
        if grant.limits is None and not self._by_default:
            return
        buckets = self._of(grant)
        if buckets is not None and buckets.events is not None and number:
            self._charge(buckets.events, number)

    def _charge(self, bucket: Bucket, cost: int) -> None:
        now_s = self._clock_s()
        wait_s = bucket.take(cost, now_s)
        if wait_s:
            raise Problem(
                429,
                "too-many-requests",
                f"expected at most {bucket.rate_per_s:g} {bucket.unit} a second with this key, got more; "
                f"nothing of this request was taken: send it again in {wait_s:.3g} s",
                headers={**retry_after(wait_s), **bucket.headers(now_s)},
            )

    def _of(self, grant: Grant) -> Buckets | None:
        key = grant.tenant, grant.key_id, grant.limits
        if key not in self._buckets:
            own = grant.limits or Limits()
            requests, events = (
                default if mine is None else mine
                for mine, default in zip(
                    (own.max_requests_per_s, own.max_events_per_s), self._defaults, strict=True
                )
            )
            now_s = self._clock_s()
            self._buckets[key] = (
                Buckets(
                    Bucket("requests", requests, now_s) if requests else None,
                    Bucket("events", events, now_s) if events else None,
                )
                if requests or events
                else None
            )
        return self._buckets[key]


async def show_rates(message: Message, scope: Scope) -> None:
    """A `before_send` hook: the headers of a key with a limit, on every answer but 429, which has its own."""
    if message["type"] != "http.response.start":
        return
    charged = scope["state"].get(_STATE)
    if charged is None or message["status"] == 429:
        return
    buckets, clock_s = charged
    now_s = clock_s()
    message["headers"] = [
        *message["headers"],
        *((name.encode(), value.encode()) for name, value in buckets.scarcest(now_s).headers(now_s).items()),
    ]
