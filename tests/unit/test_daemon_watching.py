"""A tenant's watch: from the feed to the log, again after every failure and restart, and once an alarm."""

from __future__ import annotations

import msgspec
import pytest

from learners.daemon import watching as module
from learners.daemon.journal import Journal
from learners.daemon.watching import Watching, life_of
from learners.watch.settings import WatchSettings
from learners.watch.state import WatchState
from learners.watch.two_sample import WindowTest
from schemas import lifecycle as lc
from schemas.envelope import Event
from schemas.errors import Retryable
from schemas.ids import step_id
from schemas.interactions import Exposure
from schemas.lifecycle_state import Outcome
from schemas.serving import CHALLENGER_ARM
from tests.lifecycle_events import START, event, rollout, whole_story
from tests.unit.learner_parts import (
    Clock,
    Lifecycle,
    Queries,
    asked_from,
    fallen_clicks,
    lifecycle_up_to,
    two_sample,
)
from tests.unit.watch_streams import query, watch

SETTINGS = WatchSettings(settle_s=30)
SERVING = 3


class Watched:
    """`acme` with a champion, a feed and a watch that can be started again."""

    def __init__(self, lifecycle: Lifecycle, queries: Queries | None = None) -> None:
        self.lifecycle = lifecycle
        self.queries = queries or Queries()
        self.clock = Clock()
        self.watching: Watching | None = None

    async def look(self, *, restarted: bool = False) -> bool:
        """One look; with a new watch if it was restarted, or if its life ended."""
        state = await self.lifecycle.now()
        if restarted or self.watching is None or self.watching.life != life_of(state):
            self.watching = Watching("acme", life_of(state), state)
        journal = Journal(self.lifecycle, self.clock)
        return await self.watching.look(state, self.queries, SETTINGS, two_sample, journal)

    @property
    def state(self) -> WatchState:
        """What the watch knows."""
        assert self.watching is not None
        return self.watching.watch


async def watched() -> Watched:
    """A champion since the story's start, and users that click less and less."""
    parts = Watched(await lifecycle_up_to(SERVING))
    parts.queries.of["acme"] = fallen_clicks()
    return parts


async def test_an_alarm_is_written_with_the_champion_as_its_cause() -> None:
    parts = await watched()
    assert await parts.look()
    (written,), (drift,) = parts.lifecycle.events()[SERVING:], parts.lifecycle.payloads(SERVING)
    expected, _ = watch(parts.queries.of["acme"], SETTINGS)
    assert drift == expected.alarm
    assert (written.causationid, written.attempt) == ("c0", 1)
    assert written.id == step_id("c0", "ratchet.drift.detected.v1")
    state = await parts.lifecycle.now()
    assert state.drift == (written.id, drift)


@pytest.mark.parametrize("page", [1000, 37])
async def test_a_watch_that_was_killed_comes_to_the_same_alarm(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await watched()
    await whole.look()
    monkeypatch.setattr(module, "PAGE", page)
    killed = await watched()
    alarmed = False
    killed.clock.time = killed.queries.of["acme"][0].received_at
    for _ in range(6):
        killed.clock.forward(200)
        alarmed = alarmed or await killed.look(restarted=True)
    assert alarmed
    assert killed.lifecycle.events()[SERVING].id == whole.lifecycle.events()[SERVING].id
    (drift,), (again,) = whole.lifecycle.payloads(SERVING), killed.lifecycle.payloads(SERVING)
    assert isinstance(drift, lc.DriftDetected)
    assert isinstance(again, lc.DriftDetected)
    # e-values are sums of logarithms: other cuts round otherwise, and decide alike
    for one, two in zip(drift.signals, again.signals, strict=True):
        assert (one.column, one.method, one.fired) == (two.column, two.method, two.fired)
        assert one.statistic == pytest.approx(two.statistic)
    assert msgspec.structs.replace(drift, signals=()) == msgspec.structs.replace(again, signals=())


class Unconfirmed(Lifecycle):
    """A lifecycle that says nothing of the next append; whether it landed is up to the test."""

    def __init__(self, *, lands: bool) -> None:
        super().__init__()
        self.lands = lands
        self.deaf = False

    async def append(self, event: Event) -> Outcome:
        """As the port says."""
        if not self.deaf:
            return await super().append(event)
        self.deaf = False
        if self.lands:
            await super().append(event)
        raise Retryable("not read back in time")


@pytest.mark.parametrize("lands", [False, True])
async def test_an_alarm_that_was_not_confirmed_is_in_the_log_once(lands: bool) -> None:
    lifecycle = Unconfirmed(lands=lands)
    await lifecycle.tell(whole_story()[:SERVING])
    parts = Watched(lifecycle)
    parts.queries.of["acme"] = fallen_clicks()[:900]
    lifecycle.deaf = True
    with pytest.raises(Retryable):
        await parts.look()
    assert lifecycle.types(SERVING) == ["drift.detected"] * lands
    # the same watch tells it again, or goes on behind the one that landed
    assert await parts.look() != lands
    assert lifecycle.types(SERVING) == ["drift.detected"]
    assert lifecycle.outcomes[-1].accepted


@pytest.mark.parametrize("page", [1000, 37])
async def test_after_an_alarm_the_watch_goes_on_behind_its_last_query(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE", page)
    parts = await watched()
    queries = parts.queries.of["acme"]
    parts.queries.of["acme"] = queries[:900]
    assert await parts.look()
    (drift,) = parts.lifecycle.payloads(SERVING)
    assert isinstance(drift, lc.DriftDetected)
    for restarted in (False, True):
        assert not await parts.look(restarted=restarted)
        left = 900 - 1 - int(drift.last_query_id[1:])
        assert (parts.state.windows, parts.state.counted) == (0, left)
    parts.queries.of["acme"] = queries
    assert not await parts.look()
    assert parts.state.counted == left + 200
    assert parts.lifecycle.types(SERVING) == ["drift.detected"]


async def test_a_window_whose_tests_cannot_answer_waits_and_is_asked_again() -> None:
    """Nothing is skipped and nothing counted twice: the same alarm as if the tests had answered at once."""
    parts = await watched()
    state = await parts.lifecycle.now()
    watching, journal = Watching("acme", life_of(state), state), Journal(parts.lifecycle, parts.clock)
    asked: list[int] = []

    async def at_the_second_time(question: WindowTest) -> dict[str, float]:
        asked.append(question.window)
        if asked.count(question.window) == 1:
            raise Retryable("the two-sample process died", retry_after_s=10)
        return await two_sample(question)

    with pytest.raises(Retryable, match="process died"):
        await watching.look(state, parts.queries, SETTINGS, at_the_second_time, journal)
    assert watching.watch == WatchState(champion="1.0.0")
    assert len(parts.lifecycle.records) == SERVING
    assert await watching.look(state, parts.queries, SETTINGS, at_the_second_time, journal)
    assert asked == [1, 1]
    expected, _ = watch(parts.queries.of["acme"], SETTINGS)
    assert parts.lifecycle.payloads(SERVING) == [expected.alarm]


async def test_a_query_counts_when_it_has_settled() -> None:
    parts = Watched(await lifecycle_up_to(SERVING))
    parts.queries.of["acme"] = asked_from(START, [query(n, text=f"words {n}") for n in range(50)])
    parts.clock.time = parts.queries.of["acme"][-1].received_at
    assert not await parts.look()
    assert parts.state.counted == 20
    parts.clock.forward(30)
    assert not await parts.look()
    assert parts.state.counted == 50


async def test_what_the_challengers_users_did_does_not_count() -> None:
    lifecycle = await lifecycle_up_to(11)
    await lifecycle.tell([event(rollout(), "o1", cause="j1")])
    exposed = (Exposure("canary-1", CHALLENGER_ARM),)
    parts = Watched(lifecycle)
    parts.queries.of["acme"] = asked_from(
        START, [query(n, text=f"words {n}", exposures=exposed if n % 5 == 0 else ()) for n in range(50)]
    )
    await parts.look()
    assert (parts.state.counted, parts.state.passed_over) == (40, 10)


async def test_a_new_champion_begins_a_new_life() -> None:
    lifecycle = await lifecycle_up_to(SERVING)
    lives = [life_of(await lifecycle.now())]
    for told in whole_story()[SERVING:]:
        await lifecycle.tell([told])
        lives.append(life_of(await lifecycle.now()))
    assert lives == ["c0", *["d1"] * 9, "c1"]
    state = await lifecycle.now()
    watching = Watching("acme", life_of(state), state)
    assert watching.watch == WatchState(champion="1.1.0")
