"""Looks at all processes again and again, and knows which alerts are raised."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

import structlog
from prometheus_client import CollectorRegistry

from api.alerts.firing import Raised, RuleSet
from api.alerts.series import Scraped
from api.http.metrics import make_metric
from schemas import telemetry
from schemas.errors import Retryable

log = structlog.get_logger(__name__)

Scrape = Callable[[str, Collection[str]], Awaitable[Sequence[Scraped]]]
Clock = Callable[[], float]


class AlertWatch:
    """The alerts of one stack, from the metrics of its processes.

    `raised` is what is raised as of the last look; `on_look` is called after each. Asks Kafka for nothing:
    it goes on while everything else is down.
    """

    def __init__(
        self,
        rules: RuleSet,
        targets: Mapping[str, Sequence[str]],
        scrape: Scrape,
        registry: CollectorRegistry,
        *,
        on_look: Callable[[Mapping[str, Raised], float], None] = lambda _raised, _time_s: None,
    ) -> None:
        """`targets`: job → base URLs."""
        self._rules = rules
        self._targets: Final = tuple((job, url.rstrip("/")) for job, urls in targets.items() for url in urls)
        self._scrape = scrape
        self._on_look = on_look
        self._names: Final = frozenset(selector.name for rule in rules.rules for selector in rule.selectors)
        self._scrapes = make_metric(telemetry.ALERT_SCRAPES, registry)
        self._gauge = make_metric(telemetry.RAISED_ALERTS, registry)
        self._failing: set[str] = set()
        self.raised: Mapping[str, Raised] = {}
        #: Seconds since 1970; None before the first look.
        self.looked_at_s: float | None = None

    async def run(self, interval_s: float, clock: Clock = time.time) -> None:
        """Look every `interval_s`, for ever."""
        while True:
            started = time.monotonic()
            await self.look(clock)
            await asyncio.sleep(max(0.0, interval_s - (time.monotonic() - started)))

    async def look(self, clock: Clock) -> None:
        """Ask every process once, then evaluate."""
        answers = await asyncio.gather(*(self._ask(job, url) for job, url in self._targets))
        # all samples of a look have one time, and times only grow, whatever the clock does
        time_s = max(clock(), self.looked_at_s or 0.0)
        for (job, url), lines in zip(self._targets, answers, strict=True):
            self._rules.window.add_scrape(job, urlsplit(url).netloc, time_s, lines)
        self.looked_at_s = time_s
        self._evaluate(time_s)

    def take_over(self, keys: Collection[str], time_s: float) -> None:
        """Alerts that were raised before this process began."""
        time_s = max(time_s, self.looked_at_s or 0.0)
        for key in keys:
            if not self._rules.take_over(key, time_s):
                log.warning("an alert that was raised is none any more", alert=key)
        self._evaluate(time_s)

    async def _ask(self, job: str, url: str) -> Sequence[Scraped] | None:
        try:
            lines = await self._scrape(url, self._names)
        except Retryable as error:
            self._scrapes.labels(job, "failed").inc()
            if url not in self._failing:
                self._failing.add(url)
                log.warning("cannot be scraped", job=job, why=str(error))
            return None
        self._scrapes.labels(job, "ok").inc()
        self._failing.discard(url)
        return lines

    def _evaluate(self, time_s: float) -> None:
        before, self.raised = self.raised, self._rules.evaluate(time_s)
        for key in self.raised.keys() - before.keys():
            log.error("alert raised", alert=key, summary=self.raised[key].summary)
        for key in before.keys() - self.raised.keys():
            log.info("alert cleared", alert=key)
        self._gauge.clear()
        for one in self.raised.values():
            self._gauge.labels(one.alert.name, one.alert.severity).inc()
        self._on_look(self.raised, time_s)
