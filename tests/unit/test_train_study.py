"""The study: what the next trial tries is a function of the finished ones and the seed."""

from __future__ import annotations

import math
import random

import pytest

from learners.train.requests import FinishedTrial
from learners.train.study import FUSION_ONLY, Parameters, next_parameters, search_space


def value_of(parameters: Parameters) -> float:
    """A made-up objective with one best learning rate."""
    if not parameters["train"]:
        return 0.5
    return 0.8 - abs(math.log(float(parameters["learning_rate"] or 1) / 1e-4)) / 10


def play(trials: int, *, seed: int = 5, failing: frozenset[int] = frozenset()) -> list[FinishedTrial]:
    """A study from trial 0 on; a failed trial comes back without parameters, as in the lifecycle."""
    finished: list[FinishedTrial] = []
    for number in range(trials):
        parameters = next_parameters(number, finished, seed=seed, base_differs=True)
        failed = number in failing
        finished.append(
            FinishedTrial(
                number=number,
                state="failed" if failed else "complete",
                parameters={} if failed else parameters,
                value=None if failed else value_of(parameters),
            )
        )
    return finished


def test_trial_0_trains_nothing_and_the_others_train_within_the_space() -> None:
    finished = play(8)
    assert finished[0].parameters == FUSION_ONLY
    space = search_space(base_differs=True)
    for trial in finished[1:]:
        assert trial.parameters["train"] is True
        assert set(trial.parameters) == {"train", *space}
        for name, distribution in space.items():
            drawn = distribution.to_internal_repr(trial.parameters[name])
            assert distribution._contains(drawn), (name, trial.parameters[name])
    assert len({str(trial.parameters) for trial in finished}) == 8


def test_a_study_that_was_killed_anywhere_goes_on_the_same() -> None:
    whole = play(9, failing=frozenset({3}))
    for number in range(9):
        known = whole[:number]
        random.Random(number).shuffle(known)
        expected = whole[number].parameters if number != 3 else play(4)[3].parameters
        assert next_parameters(number, known, seed=5, base_differs=True) == expected


def test_later_trials_do_not_change_an_earlier_one() -> None:
    whole = play(7)
    assert next_parameters(4, whole, seed=5, base_differs=True) == whole[4].parameters


def test_another_seed_gives_other_parameters() -> None:
    assert play(4, seed=6)[3].parameters != play(4, seed=5)[3].parameters


def test_what_did_well_is_tried_more_closely() -> None:
    def distance(trial: FinishedTrial) -> float:
        return abs(math.log(float(trial.parameters["learning_rate"] or 1) / 1e-4))

    late, early = [], []
    for seed in range(6):
        finished = play(30, seed=seed)
        early += [distance(trial) for trial in finished[2:5]]
        late += [distance(trial) for trial in finished[20:]]
    assert sum(late) / len(late) < 0.7 * sum(early) / len(early)


def test_a_champion_that_is_the_base_leaves_one_start() -> None:
    starts = {next_parameters(number, (), seed=1, base_differs=False)["start"] for number in range(1, 12)}
    assert starts == {"champion"}


@pytest.mark.parametrize(
    "parameters", [{}, {"train": True, "learning_rate": 1e-4}, {**play(2)[1].parameters, "labels": "gone"}]
)
def test_a_trial_of_another_release_teaches_nothing(parameters: Parameters) -> None:
    strange = FinishedTrial(number=1, state="complete", parameters=parameters, value=0.9)
    start = play(1)
    assert next_parameters(2, [*start, strange], seed=5, base_differs=True) == next_parameters(
        2, start, seed=5, base_differs=True
    )
