"""What the learner does next, at every point of the story."""

from __future__ import annotations

from typing import Literal

import pytest

from learners import steps
from schemas import lifecycle as lc
from tests.lifecycle_events import event, fold, judged, whole_story

STORY = whole_story()


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, steps.Wait),
        (2, steps.Wait),
        (3, steps.Watch),
        (4, steps.RequestTraining),
        (5, steps.Freeze),
        (6, steps.RunTrial),
        (7, steps.RunTrial),
        (8, steps.Propose),
        (9, steps.Judge),
        (10, steps.Wait),
        (12, steps.LookAtRollout),
        (13, steps.Watch),
    ],
)
def test_the_next_step_follows_from_the_log_alone(count: int, expected: type) -> None:
    state, _ = fold(STORY[:count])
    assert isinstance(steps.next_step(state, trials=2), expected)


def test_a_killed_study_goes_on_with_the_trial_that_is_missing() -> None:
    events = [
        *STORY[:6],
        event(lc.TrialFinished(dataset_id="ds", number=1, state="complete", value=0.6), "x1", cause="f1"),
    ]
    step = steps.next_step(fold(events)[0], trials=3)
    assert isinstance(step, steps.RunTrial)
    assert step.number == 0


def test_the_best_trial_is_proposed_and_the_cheaper_one_of_equals() -> None:
    def finished(number: int, value: float | None) -> lc.TrialFinished:
        state: Literal["complete", "failed"] = "failed" if value is None else "complete"
        return lc.TrialFinished(dataset_id="ds", number=number, state=state, value=value)

    trials = [event(finished(n, v), f"x{n}", cause="f1") for n, v in enumerate([0.5, 0.7, None, 0.7])]
    step = steps.next_step(fold([*STORY[:6], *trials])[0], trials=4)
    assert isinstance(step, steps.Propose)
    assert (step.trial, step.cause) == (1, "x1")


def test_a_study_without_a_result_is_abandoned() -> None:
    failed = [
        event(lc.TrialFinished(dataset_id="ds", number=n, state="failed"), f"x{n}", cause="f1")
        for n in range(2)
    ]
    assert isinstance(steps.next_step(fold([*STORY[:6], *failed])[0], trials=2), steps.Abandon)


def test_a_refused_version_is_rejected() -> None:
    state, _ = fold([*STORY[:9], event(judged("refused"), "j1", cause="p1")])
    step = steps.next_step(state, trials=2)
    assert isinstance(step, steps.Reject)
    assert step.cause == "j1"


def test_propose_waits_for_a_person_and_says_the_command_while_auto_starts() -> None:
    state, _ = fold(STORY[:11])
    step = steps.next_step(state, trials=2)
    assert isinstance(step, steps.Wait)
    assert step.command == "ratchet canary 1.1.0"
    auto = event(lc.TenantConfigured(mode="auto"), "a0")
    state, _ = fold([auto, *STORY[:10]])
    assert isinstance(steps.next_step(state, trials=2), steps.Wait)  # not ready yet
    state, _ = fold([auto, *STORY[:11]])
    assert isinstance(steps.next_step(state, trials=2), steps.StartRollout)
