"""Looking at processes, and what the lifecycle hears of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping, Sequence

import httpx
import pytest
from prometheus_client import CollectorRegistry

from api.alerts.firing import Raised, RuleSet
from api.alerts.journal import raised_before, reconcile
from api.alerts.scraping import scrape
from api.alerts.series import Scraped
from api.alerts.watch import AlertWatch
from learners.memory import MemoryLifecycleLog
from schemas.alerts import ALERTS
from schemas.codec import decode_payload
from schemas.errors import Retryable
from schemas.lifecycle import AlertCleared, AlertRaised
from schemas.topics import PLATFORM

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
TARGETS = {
    "ratchet-api": ["http://api-1:8000", "http://api-2:8000/"],
    "ratchet-streams": ["http://streams-1:8002", "http://streams-2:8002"],
}
DOWN = 'RatchetProcessDown{instance="api-2:8000",job="ratchet-api"}'


class Stack:
    """Processes by base URL: what they show, None if they are away; a clock and a watch over them."""

    def __init__(self) -> None:
        self.shown: dict[str, list[Scraped] | None] = {
            url.rstrip("/"): [] for urls in TARGETS.values() for url in urls
        }
        self.time_s = 1_000_000.0
        self.registry = CollectorRegistry()
        self.looks: list[Mapping[str, Raised]] = []
        self.watch = AlertWatch(
            RuleSet(ALERTS, {}),
            TARGETS,
            self._scrape,
            self.registry,
            on_look=lambda raised, _time_s: self.looks.append(raised),
        )

    async def _scrape(self, url: str, names: Collection[str]) -> Sequence[Scraped]:
        shown = self.shown[url]
        if shown is None:
            raise Retryable("refused")
        return [line for line in shown if line.name in names]

    async def go_on(self, seconds: float, every_s: float = 15.0) -> None:
        for _ in range(int(seconds / every_s)):
            self.time_s += every_s
            await self.watch.look(lambda: self.time_s)


async def test_a_process_that_goes_is_missed_and_seen_again() -> None:
    stack = Stack()
    await stack.go_on(60)
    stack.shown["http://api-2:8000"] = None
    await stack.go_on(120)
    assert stack.watch.raised == {}
    await stack.go_on(30)
    assert list(stack.watch.raised) == [DOWN]
    assert stack.watch.raised[DOWN].summary == "ratchet-api at api-2:8000 cannot be scraped"
    labels = {"alert": "RatchetProcessDown", "severity": "critical"}
    assert stack.registry.get_sample_value("ratchet_raised_alerts", labels) == 1
    failed = {"job": "ratchet-api", "outcome": "failed"}
    assert stack.registry.get_sample_value("ratchet_alert_scrapes_total", failed) == 10
    stack.shown["http://api-2:8000"] = []
    await stack.go_on(15)
    assert stack.watch.raised == {}
    assert stack.registry.get_sample_value("ratchet_raised_alerts", labels) is None
    assert [len(raised) for raised in stack.looks].count(1) == 2


async def test_two_workers_that_show_one_lag_are_one_alert() -> None:
    stack = Stack()
    for worker in ("http://streams-1:8002", "http://streams-2:8002"):
        stack.shown[worker] = [
            Scraped("ratchet_stream_lag_events", {"topic": "interactions", "partition": "3"}, 7),
            Scraped("ratchet_stream_committed_events", {"topic": "interactions", "partition": "3"}, 500),
            Scraped("ratchet_stream_lag_seconds", {"topic": "interactions", "partition": "3"}, 900),
        ]
    await stack.go_on(600)
    assert sorted(key for key in stack.watch.raised if "Lag" in key) == [
        'RatchetLagOld{topic="interactions"}',
        'RatchetLagStalled{partition="3",topic="interactions"}',
    ]


async def test_a_clock_that_is_set_back_changes_nothing() -> None:
    stack = Stack()
    stack.shown["http://api-2:8000"] = None
    await stack.go_on(150)
    stack.time_s -= 3600
    await stack.watch.look(lambda: stack.time_s)
    assert list(stack.watch.raised) == [DOWN]


async def test_the_lifecycle_is_brought_to_what_is_raised_however_often() -> None:
    stack, log = Stack(), MemoryLifecycleLog()
    stack.shown["http://api-2:8000"] = None
    await stack.go_on(150)
    for _ in range(2):
        await reconcile(log, stack.watch.raised, NOW)
    assert list(await raised_before(log)) == [DOWN]
    stack.shown["http://api-2:8000"] = []
    await stack.go_on(15)
    for _ in range(2):
        await reconcile(log, stack.watch.raised, NOW)
    assert list(await raised_before(log)) == []
    first, second = log.events()
    assert (first.tenant, second.tenant) == (PLATFORM, PLATFORM)
    assert decode_payload(first) == AlertRaised(
        alert=DOWN, summary="ratchet-api at api-2:8000 cannot be scraped", value=0.0
    )
    assert decode_payload(second) == AlertCleared(alert=DOWN)
    assert second.causationid == first.id
    # raised and cleared again: other events
    stack.shown["http://api-2:8000"] = None
    await stack.go_on(150)
    await reconcile(log, stack.watch.raised, NOW)
    stack.shown["http://api-2:8000"] = []
    await stack.go_on(15)
    await reconcile(log, stack.watch.raised, NOW)
    assert len({event.id for event in log.events()}) == 4
    assert list(await raised_before(log)) == []


async def test_a_process_that_starts_anew_goes_on_with_what_was_raised() -> None:
    before, log = Stack(), MemoryLifecycleLog()
    before.shown["http://api-2:8000"] = None
    await before.go_on(150)
    await reconcile(log, before.watch.raised, NOW)
    for still_down in (True, False):
        stack = Stack()
        stack.shown["http://api-2:8000"] = None if still_down else []
        stack.watch.take_over([*await raised_before(log), "RatchetOfLongAgo"], stack.time_s)
        assert list(stack.watch.raised) == [DOWN]
        assert "before the process `alerts` was started" in stack.watch.raised[DOWN].summary
        await stack.go_on(105)
        assert list(stack.watch.raised) == [DOWN]
        assert await reconcile(log, stack.watch.raised, NOW) == 0
        await stack.go_on(30)
        assert list(stack.watch.raised) == ([DOWN] if still_down else [])
        assert await reconcile(log, stack.watch.raised, NOW) == (0 if still_down else 1)


def served(text: str, status: int = 200) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(status, text=text)))


async def test_a_scrape_takes_the_wanted_series_and_refuses_what_is_no_exposition() -> None:
    text = (
        "# HELP a_total x\n# TYPE a_total counter\n"
        'a_total{x="\\"1\\" \\\\ \\n2",y=""} 5.0\na_total_more 1\n'
        '# TYPE b histogram\nb_bucket{le="+Inf"} 3\nb_count 3\nother 1\n'
    )
    lines = await scrape(served(text), "http://x", {"a_total", "b_bucket"})
    assert lines == [
        Scraped("a_total", {"x": '"1" \\ \n2', "y": ""}, 5.0),
        Scraped("b_bucket", {"le": "+Inf"}, 3.0),
    ]
    for client in (served("a_total what", 200), served("a_total 1", 503)):
        with pytest.raises(Retryable, match="no metrics from http://x"):
            await scrape(client, "http://x", {"a_total"})
