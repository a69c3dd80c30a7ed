"""Traffic: customers' questions, answered and reacted to by so many at a time, and what it comes to."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterator

from infra.demo.application import HelpSearch
from infra.demo.customers import Ask, Customers
from infra.demo.dataset import Bank

#: Queries in the moving window of the click rate that is told.
WINDOW = 200


class Meter:
    """Counts of one phase, and the click rate of its latest queries."""

    def __init__(self, on_query: Callable[[Meter], None]) -> None:
        self._on_query = on_query
        self.queries = 0
        self.repeats = 0
        self.clicks = 0
        self.clicked = 0
        self.thumbs = 0
        self.by_version: dict[str, int] = {}
        self._latest: deque[bool] = deque(maxlen=WINDOW)
        self._started = time.monotonic()
        self._seconds = 0.0

    def count(self, ask: Ask, version: str, clicks: int, thumbs: int) -> None:
        """One query is done."""
        self.queries += 1
        self.repeats += ask.repeat
        self.clicks += clicks
        self.clicked += clicks > 0
        self.thumbs += thumbs
        self.by_version[version] = self.by_version.get(version, 0) + 1
        self._latest.append(clicks > 0)
        self._seconds = time.monotonic() - self._started
        self._on_query(self)

    @property
    def rate(self) -> float:
        """Queries per second, from the phase's beginning to its last query."""
        return self.queries / self._seconds if self._seconds else 0.0

    @property
    def click_rate(self) -> float:
        """Share of the latest queries with a click."""
        return sum(self._latest) / len(self._latest) if self._latest else 0.0

    def __str__(self) -> str:
        return f"{self.rate:.0f} queries/s · {self.click_rate:.0%} of the last {len(self._latest)} clicked"

    def summary(self) -> dict[str, int | dict[str, int]]:
        """The counts, for the report."""
        return {
            "queries": self.queries,
            "repeated_questions": self.repeats,
            "queries_with_click": self.clicked,
            "clicks": self.clicks,
            "thumbs": self.thumbs,
            "queries_by_version": dict(sorted(self.by_version.items())),
        }


class Traffic:
    """Lets customers ask. Every random draw follows from (seed, phase, number) and not from timing."""

    def __init__(
        self, application: HelpSearch, bank: Bank, customers: Customers, seed: int, concurrency: int
    ) -> None:
        self._application = application
        self._bank = bank
        self._customers = customers
        self._seed = seed
        self._concurrency = concurrency

    async def run(
        self, asks: Iterator[Ask], meter: Meter, *, limit: int, enough: Callable[[], bool] = lambda: False
    ) -> None:
        """Ask until `limit` queries were asked or `enough` says so. Raises ClientError."""
        left = iter(range(limit))

        async def customers() -> None:
            while not enough() and next(left, None) is not None:
                await self._serve(next(asks), meter)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(customers())
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _serve(self, ask: Ask, meter: Meter) -> None:
        attributes: dict[str, str | bool] = {"question": ask.question.id, "repeat": ask.repeat}
        found = await self._application.search(ask.question.text, ask.user, attributes)
        answers = self._bank.relevant[ask.question.id]
        reactions = self._customers.react(
            [hit.document_id in answers for hit in found.hits], self._rng("react", ask)
        )
        await self._application.report(found, reactions, self._rng("faults", ask))
        thumbs = sum(reaction.thumb is not None for reaction in reactions)
        meter.count(ask, found.version, len(reactions), thumbs)

    def _rng(self, purpose: str, ask: Ask) -> random.Random:
        return random.Random(f"{self._seed}/{purpose}/{ask.phase}/{ask.number}")
