"""The lifecycle state machine, step by step."""

from __future__ import annotations

import pytest

from schemas import lifecycle as lc
from schemas.serving import assign
from schemas.tenant_state import LifecycleState
from tests.lifecycle_events import START, event, fold, judged, rollout, whole_story

DRIFT = lc.DriftDetected(champion="1.0.0", window=1, reference_queries=1, window_queries=1, alpha=0.05)
ADVANCE_BACK = lc.RolloutAdvanced(rollout="canary-1", share=0.1, measure=lc.Measure(metric="m"))


def after(count: int) -> LifecycleState:
    """The state after the first `count` events of the whole story."""
    return fold(whole_story()[:count])[0]


def test_whole_story_is_accepted_and_promotes() -> None:
    state, outcomes = fold(whole_story())
    assert [o.reason for o in outcomes if not o.accepted] == []
    assert state.champion == "1.1.0"
    assert state.versions["1.0.0"].stage == "retired"
    assert state.champion_by == "c1"
    assert (state.training, state.rollout, state.drift) == (None, None, None)


def test_a_long_lifecycle_copies_little_an_event() -> None:
    state, copied = after(3), 0
    for number in range(4000):
        before = {id(part) for part in state.seen.parts}
        state, _ = fold([event(lc.ExperimentMeasured(experiment="e"), f"m{number}")], state)
        copied += sum(len(part) for part in state.seen.parts if id(part) not in before)
    assert copied < 4003 * 16
    _, (again,) = fold([event(lc.ExperimentMeasured(experiment="e"), "m17")], state)
    assert "repeated" in again.reason


def test_an_arm_that_nobody_gets_is_refused() -> None:
    arms = (lc.Arm("control", 1.0), lc.Arm("later", 0.0))
    _, (outcome,) = fold([event(lc.ExperimentDefined(experiment="e", arms=arms), "e1")], after(3))
    assert outcome.reason == "every arm needs a weight above 0"


def test_an_experiment_of_versions_rests_whole_while_a_canary_runs_and_runs_alone() -> None:
    arms = (lc.Arm("control", 0.5), lc.Arm("new", 0.5, "1.0.0"))
    defined = event(lc.ExperimentDefined(experiment="v", arms=arms), "e1")
    state, outcomes = fold([defined, event(lc.ExperimentStarted(experiment="v"), "e2")], after(12))
    assert all(outcome.accepted for outcome in outcomes)
    exposures = [assign(state, f"u{number}").exposures for number in range(500)]
    assert {exposure.experiment for both in exposures for exposure in both} == {"canary-1"}
    second = event(lc.ExperimentDefined(experiment="w", arms=arms), "e3")
    _, (_, started) = fold([second, event(lc.ExperimentStarted(experiment="w"), "e4")], state)
    assert started.reason == "experiment 'v' serves versions, too, and runs: stop it first"


def test_repeated_events_change_nothing() -> None:
    events = whole_story()
    doubled = [each for pair in zip(events, events, strict=True) for each in pair]
    state, outcomes = fold(doubled)
    assert state == fold(events)[0]
    assert all("repeated" in outcome.reason for outcome in outcomes[1::2])


@pytest.mark.parametrize(
    ("count", "payload", "cause", "words"),
    [
        (0, DRIFT, None, "champion is None"),
        (4, DRIFT, None, "drift waits"),
        (4, lc.TrainingRequested(champion="1.0.0"), "other", "not the drift"),
        (5, lc.TrainingRequested(champion="1.0.0", reason="command"), None, "training is open"),
        (5, lc.TrialFinished(dataset_id="ds", number=0, state="complete"), "t1", "stands at 'requested'"),
        (7, lc.TrialFinished(dataset_id="ds", number=0, state="complete"), "f1", "finished already"),
        (7, lc.TrialFinished(dataset_id="other", number=5, state="complete"), "f1", "on dataset ds"),
        (9, lc.VersionReady(version="9.9.9"), None, "no version '9.9.9'"),
        (10, rollout(), "j1", "not ready"),
        (9, rollout(), "p1", "judge must admit"),
        (12, judged(), "p1", "is canary"),
        (11, lc.VersionPromoted(version="1.1.0", by="canary", reason="x"), "j1", "no running rollout"),
        (9, lc.VersionPromoted(version="1.1.0", by="person", reason=" "), "p1", "gives a reason"),
        (13, lc.VersionPromoted(version="1.1.0", by="person", reason="x"), "p1", "champion already"),
        (13, lc.VersionRejected(version="1.1.0", reason="x"), "p1", "stays so"),
        (12, lc.VersionRolledBack(version="1.1.0", to="1.1.0", reason="x"), "o1", "falls back on"),
        (3, lc.VersionRolledBack(version="1.0.0", to="1.0.0", reason="x"), None, "itself"),
        (12, ADVANCE_BACK, "o1", "grows or ends"),
        (13, lc.VersionProposed(version="2.0.0", manifest_hash="m", origin="base"), None, "base is '1.0.0'"),
    ],
)  # fmt: skip
def test_illegal_steps_are_ignored_with_the_reason(
    count: int, payload: object, cause: str | None, words: str
) -> None:
    before = after(count)
    state, (outcome,) = fold([event(payload, "new", cause=cause)], before)  # type: ignore[arg-type]
    assert not outcome.accepted
    assert words in outcome.reason
    assert (state.champion, state.versions, state.training) == (
        before.champion,
        before.versions,
        before.training,
    )


def test_two_learners_that_both_request_training_start_one() -> None:
    story = whole_story()[:4]
    first = event(lc.TrainingRequested(champion="1.0.0"), "a", cause="d1")
    second = event(lc.TrainingRequested(champion="1.0.0"), "b", cause="d1")
    state, outcomes = fold([*story, first, second])
    assert [o.accepted for o in outcomes[-2:]] == [True, False]
    assert state.training is not None
    assert state.training.id == "a"


def test_rejection_closes_the_training_and_keeps_the_champion() -> None:
    state, outcomes = fold([*whole_story()[:9], event(judged("refused"), "j1", cause="p1")])
    assert state.training is not None
    state, more = fold(
        [event(lc.VersionRejected(version="1.1.0", reason="no better"), "n1", cause="j1")], state
    )
    assert all(o.accepted for o in outcomes + more)
    assert (state.champion, state.training) == ("1.0.0", None)


def test_a_canary_that_loses_is_rolled_back_to_the_champion() -> None:
    lost = event(lc.VersionRolledBack(version="1.1.0", to="1.0.0", reason="lost"), "b1", cause="o1")
    state, outcomes = fold([*whole_story()[:12], lost])
    assert outcomes[-1].accepted
    assert (state.champion, state.rollout, state.versions["1.1.0"].stage) == ("1.0.0", None, "rolled_back")


def test_one_command_rolls_back_to_a_former_champion() -> None:
    back = event(lc.VersionRolledBack(version="1.1.0", to="1.0.0", reason="complaints"), "b1", cause="person")
    state, outcomes = fold([*whole_story(), back])
    assert outcomes[-1].accepted
    assert state.champion == "1.0.0"
    assert state.versions["1.0.0"].stage == "champion"


def test_a_canary_against_a_replaced_champion_ends() -> None:
    story = whole_story()[:12]
    other = [
        event(lc.VersionProposed(version="2.0.0", manifest_hash="m2", origin="imported"), "p2"),
        event(lc.VersionReady(version="2.0.0"), "r2"),
        event(lc.VersionPromoted(version="2.0.0", by="person", reason="urgent"), "c2"),
    ]
    state, outcomes = fold([*story, *other])
    assert all(o.accepted for o in outcomes)
    assert (state.rollout, state.versions["1.1.0"].stage) == (None, "proposed")


def test_assignment_follows_the_canary_and_is_stable() -> None:
    state = after(12)
    served = {unit: assign(state, unit) for unit in (f"u{i}" for i in range(2000))}
    share = sum(s.version == "1.1.0" for s in served.values()) / len(served)
    assert 0.45 < share < 0.55
    assert all(len(s.exposures) == 1 for s in served.values())
    assert assign(state, None).version == "1.0.0"
    assert assign(state, None).exposures == ()
    assert {u: assign(state, u) for u in served} == served


def test_experiment_arms_serve_versions_and_stop() -> None:
    arms = (lc.Arm("control", 0.5), lc.Arm("new prompt", 0.5))
    story = [
        *whole_story()[:3],
        event(lc.ExperimentDefined(experiment="prompt", arms=arms), "e1"),
        event(lc.ExperimentStarted(experiment="prompt"), "e2"),
    ]
    state, outcomes = fold(story)
    assert all(o.accepted for o in outcomes)
    arms_seen = {assign(state, f"u{i}").exposures[0].arm for i in range(100)}
    assert arms_seen == {"control", "new prompt"}
    state, _ = fold([event(lc.ExperimentStopped(experiment="prompt"), "e3")], state)
    assert assign(state, "u1").exposures == ()
    _, (again,) = fold([event(lc.ExperimentStarted(experiment="prompt"), "e4")], state)
    assert not again.accepted
    assert START.tzinfo is not None
