"""Short ways to write lifecycle events in tests."""

from __future__ import annotations

import datetime as dt

import msgspec
from msgspec import Struct

from schemas import lifecycle as lc
from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.lifecycle_state import Outcome, apply
from schemas.tenant_state import LifecycleState

START = dt.datetime(2026, 1, 5, 9, 0, tzinfo=dt.UTC)


def event(
    payload: Struct, id: str, *, cause: str | None = None, tenant: str = "acme", minute: int = 0
) -> Event:
    """A lifecycle event of the tenant `acme`."""
    return seal_event(
        payload,
        id=id,
        source="learner",
        tenant=tenant,
        recordedtime=START + dt.timedelta(minutes=minute),
        door="learner",
        causationid=cause,
    )


def rollout(name: str = "canary-1", challenger: str = "1.1.0", champion: str = "1.0.0") -> lc.RolloutStarted:
    """A canary with half of the units."""
    return lc.RolloutStarted(
        rollout=name,
        challenger=challenger,
        champion=champion,
        share=0.5,
        metric="clicked",
        started_at=START,
        deadline=START + dt.timedelta(hours=1),
    )


def fold(events: list[Event], state: LifecycleState | None = None) -> tuple[LifecycleState, list[Outcome]]:
    """The state after these events, and how each was taken."""
    state = LifecycleState() if state is None else state
    outcomes = []
    for each in events:
        state, outcome = apply(state, each)
        outcomes.append(outcome)
    return state, outcomes


def judged(verdict: lc.Verdict = "admitted") -> lc.VersionJudged:
    """The judge's word on 1.1.0."""
    return lc.VersionJudged(
        version="1.1.0",
        champion="1.0.0",
        verdict=verdict,
        reason="test",
        measure=lc.Measure(metric="ndcg@10", estimate=0.1, low=0.05, high=0.15),
        margin=0.01,
    )


def whole_story(tenant: str = "acme") -> list[Event]:
    """One loop: base, drift, training, proposal, canary, promotion."""
    story = [
        event(lc.VersionProposed(version="1.0.0", manifest_hash="m0", origin="base"), "p0"),
        event(lc.VersionReady(version="1.0.0"), "r0", cause="p0"),
        event(lc.VersionPromoted(version="1.0.0", by="first", reason="first"), "c0", cause="p0"),
        event(
            lc.DriftDetected(
                champion="1.0.0", window=3, reference_queries=400, window_queries=200, alpha=0.05
            ),
            "d1",
        ),
        event(lc.TrainingRequested(champion="1.0.0"), "t1", cause="d1"),
        event(lc.DatasetFrozen(dataset_id="ds", offsets={}, rules="1"), "f1", cause="t1"),
        event(lc.TrialFinished(dataset_id="ds", number=0, state="complete", value=0.5), "x0", cause="f1"),
        event(lc.TrialFinished(dataset_id="ds", number=1, state="complete", value=0.6), "x1", cause="f1"),
        event(lc.VersionProposed(version="1.1.0", manifest_hash="m1", parent="1.0.0"), "p1", cause="x1"),
        event(judged(), "j1", cause="p1"),
        event(lc.VersionReady(version="1.1.0"), "r1", cause="p1"),
        event(rollout(), "o1", cause="j1"),
        event(
            lc.VersionPromoted(version="1.1.0", previous="1.0.0", reason="won"), "c1", cause="o1", minute=30
        ),
    ]
    return [msgspec.structs.replace(each, tenant=tenant) for each in story]
