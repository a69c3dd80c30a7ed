"""A person decides while the learner works: its step is ignored once, and the tenant's way goes on."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from learners.daemon.journal import Journal
from learners.daemon.watching import Watching, life_of
from learners.steps import Judge, Reject, StartRollout, Watch
from learners.watch.settings import WatchSettings
from schemas import lifecycle as lc
from schemas.envelope import Event
from schemas.lifecycle_state import Outcome
from tests.lifecycle_events import event, judged, rollout, whole_story
from tests.unit.learner_parts import (
    Clock,
    Lifecycle,
    Queries,
    fallen_clicks,
    lifecycle_up_to,
    training_steps,
    two_sample,
)
from tests.unit.test_daemon_learner import Daemon

#: Events of the whole story until the base serves, and until 1.1.0 does.
SERVING, PROMOTED = 3, 13
SECOND_TRAINING = (
    event(lc.TrainingRequested(champion="1.1.0", reason="command"), "t2"),
    event(lc.DatasetFrozen(dataset_id="ds2", offsets={}, rules="1"), "f2", cause="t2"),
    event(lc.TrialFinished(dataset_id="ds2", number=0, state="complete", value=0.5), "z0", cause="f2"),
    event(lc.VersionProposed(version="1.2.0", manifest_hash="m2", parent="1.1.0"), "p2", cause="z0"),
)
ADMITTED = event(msgspec.structs.replace(judged(), version="1.2.0", champion="1.1.0"), "j2", cause="p2")
READY = event(lc.VersionReady(version="1.2.0"), "r2", cause="p2")
BACK = event(lc.VersionRolledBack(version="1.1.0", to="1.0.0", reason="a person"), "b1")


async def test_an_alarm_that_was_ignored_is_raised_again() -> None:
    """Somebody asks for a training between the watch's look and its alarm."""
    lifecycle = await lifecycle_up_to(SERVING)
    queries, journal = Queries(), Journal(lifecycle, Clock())
    queries.of["acme"] = fallen_clicks()
    state = await journal.state("acme")
    watching = Watching("acme", life_of(state), state)
    await lifecycle.tell([event(lc.TrainingRequested(champion="1.0.0", reason="command"), "t9")])
    assert not await watching.look(state, queries, WatchSettings(), two_sample, journal)
    await lifecycle.tell([event(lc.TrainingAbandoned(reason="nothing to learn from"), "a9", cause="t9")])
    state = await journal.state("acme")
    assert await watching.look(state, queries, WatchSettings(), two_sample, journal)
    assert (await lifecycle.now()).drift is not None
    assert lifecycle.events()[-1].attempt == 2


@pytest.mark.service
async def test_a_version_is_judged_against_whoever_is_champion_when_the_judge_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    lifecycle = await lifecycle_up_to(PROMOTED)
    await lifecycle.tell(SECOND_TRAINING)
    journal = Journal(lifecycle, Clock())
    steps, state = training_steps(tmp_path, journal), await journal.state("acme")
    step = await lifecycle.due(1)
    assert isinstance(step, Judge)
    await lifecycle.tell([BACK])
    assert not (await steps.judge("acme", step, state)).accepted
    state, step = await journal.state("acme"), await lifecycle.due(1)
    assert isinstance(step, Judge)
    assert (await steps.judge("acme", step, state)).accepted
    version = (await lifecycle.now()).versions["1.2.0"]
    assert version.judged is not None
    assert version.judged.champion == "1.0.0"


@pytest.mark.parametrize(
    "change",
    [BACK, event(lc.VersionPromoted(version="1.0.0", previous="1.1.0", by="person", reason="calmer"), "b2")],
)
async def test_a_version_that_was_admitted_against_another_champion_is_judged_again(change: Event) -> None:
    lifecycle = await lifecycle_up_to(PROMOTED)
    await lifecycle.tell([event(lc.TenantConfigured(mode="auto"), "m1"), *SECOND_TRAINING, ADMITTED, READY])
    assert isinstance(await lifecycle.due(1), StartRollout)
    await lifecycle.tell([change])
    plan = rollout("canary-2", challenger="1.2.0", champion="1.0.0")
    refused = await lifecycle.append(event(plan, "o2", cause="j2"))
    assert not refused.accepted
    assert refused.reason == "version '1.2.0' is proposed: the judge must admit it first"
    step = await lifecycle.due(1)
    assert isinstance(step, Judge)
    assert step.version.version == "1.2.0"


async def test_the_judges_word_counts_again_when_its_champion_is_back() -> None:
    lifecycle = await lifecycle_up_to(PROMOTED)
    await lifecycle.tell([event(lc.TenantConfigured(mode="auto"), "m1"), *SECOND_TRAINING, ADMITTED, READY])
    again = lc.VersionPromoted(version="1.1.0", previous="1.0.0", by="person", reason="a mistake")
    await lifecycle.tell([BACK, event(again, "b3")])
    step = await lifecycle.due(1)
    assert isinstance(step, StartRollout)
    assert step.cause == "j2"


async def test_a_challenger_whose_canary_lost_its_champion_goes_back_to_the_judge() -> None:
    lifecycle = await lifecycle_up_to(PROMOTED)
    await lifecycle.tell([event(lc.TenantConfigured(mode="auto"), "m1"), *SECOND_TRAINING, ADMITTED, READY])
    plan = rollout("canary-2", challenger="1.2.0", champion="1.1.0")
    await lifecycle.tell([event(plan, "o2", cause="j2"), BACK])
    step = await lifecycle.due(1)
    assert isinstance(step, Judge)
    assert step.version.version == "1.2.0"
    refused = msgspec.structs.replace(judged(), version="1.2.0", champion="1.0.0", verdict="refused")
    await lifecycle.tell([event(refused, "j3", cause="p2")])
    assert (await lifecycle.now()).judgements == 3
    step = await lifecycle.due(1)
    assert isinstance(step, Reject)
    rejected = lc.VersionRejected(version="1.2.0", reason="worse", verdict="refused")
    await lifecycle.tell([event(rejected, "x2", cause=step.cause)])
    assert isinstance(await lifecycle.due(1), Watch)


async def test_a_watch_goes_on_though_the_query_of_its_last_alarm_is_gone() -> None:
    """A log copied without somebody no longer has all queries."""
    lifecycle = await lifecycle_up_to(SERVING)
    queries, clock = Queries(), Clock()
    queries.of["acme"] = fallen_clicks()
    # the alarm comes while the last hundred are still to be asked
    clock.time = queries.of["acme"][-100].received_at
    journal = Journal(lifecycle, clock)
    state = await journal.state("acme")
    assert await Watching("acme", life_of(state), state).look(
        state, queries, WatchSettings(settle_s=0), two_sample, journal
    )
    state = await journal.state("acme")
    assert state.last_drift is not None
    assert state.last_drift_at is not None
    gone = state.last_drift[1].last_query_id
    later = [query for query in queries.of["acme"] if query.received_at > state.last_drift_at]
    queries.of["acme"] = [query for query in queries.of["acme"] if query.query_id != gone]
    clock.forward(86_400)
    watching = Watching("acme", life_of(state), state)
    await watching.look(state, queries, WatchSettings(settle_s=0), two_sample, journal)
    assert watching.watch.counted == len(later) > 0


class Raced(Lifecycle):
    """A canary begins just before the first request of a training is in the log."""

    raced = False

    async def append(self, event_: Event) -> Outcome:
        """As the port says."""
        if event_.type == "ratchet.training.requested.v1" and not self.raced:
            self.raced = True
            await super().append(event(rollout(), "o1", cause="j1"))
        return await super().append(event_)


async def test_an_ignored_step_is_neither_repeated_for_ever_nor_at_once(tmp_path: Path) -> None:
    lifecycle, story = Raced(), whole_story()
    imported = lc.VersionProposed(version="1.1.0", manifest_hash="m", origin="imported", parent="1.0.0")
    await lifecycle.tell(story[:SERVING])
    await lifecycle.tell(
        [
            event(imported, "p1"),
            event(judged(), "j1", cause="p1"),
            event(lc.VersionReady(version="1.1.0"), "r1", cause="p1"),
            story[SERVING],
        ]
    )
    daemon = Daemon(tmp_path, lifecycle, gather_queries=0, poll_s=3600)
    assert not await daemon.learner.turn("acme")
    assert lifecycle.outcomes[-1].reason == "a rollout is running"
    await lifecycle.tell([event(lc.VersionRejected(version="1.1.0", reason="a person"), "x1", cause="o1")])
    assert await daemon.learner.turn("acme")
    training = (await lifecycle.now()).training
    assert training is not None
    assert lifecycle.events()[-1].attempt == 2
