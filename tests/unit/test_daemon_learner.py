"""The loop: one step at a time, each from the log's state; pauses, failures, neighbours, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import psutil
import pytest

from learners.daemon.journal import Journal
from learners.daemon.learner import Learner
from learners.daemon.rolling import RollingSteps
from learners.ports import ExperimentUnits
from learners.settings import LearnerSettings
from learners.watch.settings import WatchSettings
from schemas import lifecycle as lc
from schemas.errors import Fatal
from schemas.tenant_state import LifecycleState
from tests.lifecycle_events import START, event, rollout, whole_story
from tests.unit.learner_parts import (
    Clock,
    Held,
    Lifecycle,
    Queries,
    asked_from,
    fallen_clicks,
    training_steps,
    two_sample,
)
from tests.unit.watch_streams import query

SERVING, DRIFTED, READY = 3, 4, 11
DAY_S = 86400.0


async def no_units(tenant: str, experiment: str, measures: Sequence[str]) -> ExperimentUnits:
    """`UnitMeasures` of an experiment that nobody took part in."""
    return ExperimentUnits(measures={}, exposed={}, excluded_units=0, offsets={})


class Daemon:
    """A learner over a lifecycle and a feed in memory; another one over the same log is a restart."""

    def __init__(
        self,
        root: Path,
        lifecycle: Lifecycle | None = None,
        queries: Queries | None = None,
        **settings: float,
    ) -> None:
        self.lifecycle = lifecycle or Lifecycle()
        self.clock = Clock()
        self.queries = queries or Queries()
        journal = Journal(self.lifecycle, self.clock)
        pace = LearnerSettings(**{"poll_s": 0.005, "trials": 2, **settings})  # type: ignore[arg-type]
        self.learner = Learner(
            pace,
            WatchSettings(),
            journal,
            self.queries,
            two_sample,
            training_steps(root, journal, pace),
            RollingSteps(pace, journal, no_units),
        )

    async def tell(self, count: int, tenant: str = "acme") -> None:
        """The story's first events, of a tenant."""
        await self.lifecycle.tell(whole_story(tenant)[:count])

    @contextlib.asynccontextmanager
    async def running(self, *tenants: str) -> AsyncIterator[asyncio.Task[None]]:
        """The loop as a task, which is cancelled in the end and must end by that."""
        task = asyncio.create_task(self.learner.run(tenants))
        try:
            yield task
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


async def until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    """Return when it holds; fails after a deadline."""
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.005)


def children() -> list[psutil.Process]:
    """Children of the learner that live now."""
    found = []
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "learners.children" in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


async def test_an_empty_lifecycle_waits_for_the_base(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    assert not await daemon.learner.turn("acme")
    assert (daemon.learner.present, daemon.lifecycle.records) == ({"acme": "Wait"}, [])


async def test_after_an_alarm_it_gathers_queries_and_then_trains(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, gather_queries=300, gather_timeout_s=7 * DAY_S)
    await daemon.tell(SERVING)
    queries = fallen_clicks()
    daemon.queries.of["acme"] = queries
    assert await daemon.learner.turn("acme")
    assert (daemon.learner.present["acme"], daemon.lifecycle.types(SERVING)) == ("Watch", ["drift.detected"])
    later = [query(number) for number in range(2000, 2300)]
    # what came before the alarm is not new
    assert not await daemon.learner.turn("acme")
    assert daemon.learner.present["acme"] == "Gather"
    daemon.queries.of["acme"] = [*queries, *asked_from(daemon.clock.time, later)]
    daemon.clock.forward(329)  # the last of them has not settled
    assert not await daemon.learner.turn("acme")
    daemon.clock.forward(1)
    assert await daemon.learner.turn("acme")
    assert daemon.learner.present["acme"] == "RequestTraining"
    assert daemon.lifecycle.types(SERVING) == ["drift.detected", "training.requested"]
    chain = daemon.lifecycle.events()[SERVING:]
    assert chain[1].causationid == chain[0].id


async def test_a_watch_goes_on_where_it_was_and_a_new_life_begins_after_an_alarm(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    await daemon.tell(SERVING)
    queries = fallen_clicks()
    daemon.queries.of["acme"] = queries[:500]
    for _ in range(2):
        assert not await daemon.learner.turn("acme")
    assert daemon.queries.given == 500  # and not twice
    daemon.queries.of["acme"] = queries
    assert await daemon.learner.turn("acme")
    (drift,) = daemon.lifecycle.events()[SERVING:]
    requested = lc.TrainingRequested(champion="1.0.0")
    ended = [event(requested, "t1", cause=drift.id), event(lc.TrainingAbandoned(reason=""), "a1", cause="t1")]
    told = await daemon.lifecycle.tell(ended)
    assert not await daemon.learner.turn("acme")
    assert (daemon.learner.present["acme"], len(daemon.lifecycle.records)) == ("Watch", told)


async def test_where_little_is_asked_the_training_starts_when_gathering_ends(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, gather_queries=300, gather_timeout_s=7 * DAY_S)
    await daemon.tell(DRIFTED)
    daemon.clock.time = START + dt.timedelta(days=7, seconds=-1)
    assert not await daemon.learner.turn("acme")
    daemon.clock.forward(1)
    assert await daemon.learner.turn("acme")
    assert daemon.lifecycle.types(DRIFTED) == ["training.requested"]


@pytest.mark.parametrize(("mode", "step"), [("propose", "Wait"), ("auto", "StartRollout")])
async def test_an_admitted_version_waits_for_a_person_unless_the_tenant_wants_it_tried(
    mode: str, step: str, tmp_path: Path
) -> None:
    daemon = Daemon(tmp_path)
    await daemon.tell(READY)
    configured = lc.TenantConfigured(mode="auto" if mode == "auto" else "propose")
    begun = await daemon.lifecycle.tell([event(configured, "m1")])
    assert await daemon.learner.turn("acme") == (mode == "auto")
    assert daemon.learner.present["acme"] == step
    started = daemon.lifecycle.events()[begun:]
    assert [told.causationid for told in started] == (["j1"] if mode == "auto" else [])
    assert ((await daemon.lifecycle.now()).rollout is None) == (mode == "propose")


async def test_a_running_canary_is_looked_at_and_ends_at_its_deadline(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    await daemon.tell(READY)
    begun = await daemon.lifecycle.tell([event(rollout(), "o1", cause="j1")])
    daemon.clock.time = START + dt.timedelta(minutes=30)
    assert not await daemon.learner.turn("acme")
    daemon.clock.time = START + dt.timedelta(minutes=61)
    assert not await daemon.learner.turn("acme")
    assert daemon.learner.present["acme"] == "LookAtRollout"
    assert daemon.lifecycle.types(begun) == ["experiment.measured"] * 2 + ["version.rejected"]
    assert not await daemon.learner.turn("acme")
    assert daemon.learner.present["acme"] == "Watch"


async def test_a_running_experiment_is_measured_beside_every_step(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, measure_interval_s=60)
    await daemon.tell(SERVING)
    arms = (lc.Arm("champion", 0.5), lc.Arm("other", 0.5))
    begun = await daemon.lifecycle.tell(
        [
            event(lc.ExperimentDefined(experiment="colours", arms=arms), "e1"),
            event(lc.ExperimentStarted(experiment="colours"), "e2"),
        ]
    )
    for waited_s in (0, 59, 1):
        daemon.clock.forward(waited_s)
        assert not await daemon.learner.turn("acme")
        assert daemon.learner.present["acme"] == "Watch"
    assert daemon.lifecycle.types(begun) == ["experiment.measured"] * 2
    assert all(outcome.accepted for outcome in daemon.lifecycle.outcomes)
    await daemon.lifecycle.tell([event(lc.ExperimentStopped(experiment="colours"), "e3")])
    daemon.clock.forward(60)
    await daemon.learner.turn("acme")
    assert len(daemon.lifecycle.records) == begun + 3


async def test_it_does_nothing_before_its_step_is_read_back(tmp_path: Path) -> None:
    lifecycle = Held()
    daemon = Daemon(tmp_path, lifecycle, gather_queries=0)
    await daemon.tell(DRIFTED)
    lifecycle.holding = True
    async with daemon.running("acme"):
        await until(lambda: bool(lifecycle.held))
        for _ in range(50):
            await asyncio.sleep(0)
        assert [told.type for told in lifecycle.held] == ["ratchet.training.requested.v1"]
        assert (daemon.learner.steps_taken, len(lifecycle.records)) == (0, DRIFTED)


async def test_two_learners_on_one_log_take_each_step_once(tmp_path: Path) -> None:
    """Both decide on the same state, before either step is in the log."""
    lifecycle = Held()
    one, two = (Daemon(tmp_path, lifecycle, gather_queries=0) for _ in range(2))
    await one.tell(DRIFTED)
    lifecycle.holding = True
    turns = asyncio.gather(one.learner.turn("acme"), two.learner.turn("acme"))
    await until(lambda: len(lifecycle.held) == 2)
    lifecycle.release.set()
    await turns
    assert [outcome.accepted for outcome in lifecycle.outcomes[DRIFTED:]] == [True, False]
    assert lifecycle.outcomes[-1].reason.startswith("repeated")


async def test_a_tenant_that_cannot_be_read_is_tried_again_and_holds_up_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Queries()
    feed.broken.add("acme")
    daemon = Daemon(tmp_path, queries=feed, gather_queries=10_000)
    for tenant in ("acme", "bank"):
        await daemon.tell(SERVING, tenant)
    told = len(daemon.lifecycle.records)
    feed.of = {tenant: fallen_clicks() for tenant in ("acme", "bank")}
    async with daemon.running("acme"):  # the other tenant is known by its lifecycle
        await until(lambda: daemon.learner.present.get("bank") == "Gather")
        assert [written.tenant for written in daemon.lifecycle.events()[told:]] == ["bank"]
        assert "the store is away" in caplog.text
        feed.broken.clear()
        assert daemon.learner.present["acme"] == "Watch"  # it said for how long not to ask again
        daemon.clock.forward(60)
        await until(lambda: daemon.learner.present["acme"] == "Gather")
    first, second = daemon.lifecycle.events()[told:]
    assert (first.tenant, second.tenant) == ("bank", "acme")
    assert first.causationid == second.causationid == "c0"


async def test_it_pauses_when_no_tenant_moved(tmp_path: Path) -> None:
    feed = Queries()
    feed.broken.add("acme")
    daemon = Daemon(tmp_path, queries=feed, poll_s=3600)
    for tenant in ("acme", "bank"):
        await daemon.tell(SERVING, tenant)
    async with daemon.running():
        await until(lambda: daemon.learner.steps_taken == 2)
        for _ in range(50):
            await asyncio.sleep(0)
        assert (daemon.learner.steps_taken, feed.asked) == (2, {"acme": 1, "bank": 1})


class Lost(Lifecycle):
    """A lifecycle that can no longer be followed."""

    async def state(self, tenant: str) -> LifecycleState:
        """As the port says."""
        raise Fatal("the log lost its end")


async def test_a_lifecycle_that_cannot_be_followed_ends_it(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="lost its end"):
        await Daemon(tmp_path, Lost()).learner.run(("acme",))


@pytest.mark.service
async def test_cancelled_amid_a_step_it_leaves_no_child_and_a_new_one_takes_the_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    daemon = Daemon(tmp_path, gather_queries=0, poll_s=3600)  # a step that was taken is followed at once
    await daemon.tell(DRIFTED)
    async with daemon.running("acme"):
        await until(lambda: bool(children()))
        assert daemon.learner.present["acme"] == "Freeze"
    assert not children()
    assert daemon.lifecycle.types(DRIFTED) == ["training.requested"]
    restarted = Daemon(tmp_path, daemon.lifecycle, poll_s=3600)
    async with restarted.running("acme"):
        await until(lambda: restarted.learner.present.get("acme") == "Watch")
    assert daemon.lifecycle.types(DRIFTED) == ["training.requested", "training.abandoned"]
    assert daemon.lifecycle.outcomes[-1].accepted
