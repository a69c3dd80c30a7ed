"""Which parameters the next trial gets: Optuna's TPE, told of the finished trials each time anew.

Nothing is stored: the finished trials come from the log, the seed of the sampler from (seed, number). So the
same log gives the same next parameters, whoever asks and however often the learner was killed.

Trial 0 trains nothing: the champion's embedder with fusion tuned on what users do now. Trial 1 is a training
in the middle of the space; TPE draws the others, at random as long as it knows little.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from learners.train.requests import FinishedTrial, Parameter

Parameters = dict[str, Parameter]

#: Which evidence a trial trains on; `learners.train.labelling` says what each is.
LABELLINGS: Final = ("heaviest", "spread", "spread+negatives")
#: Trial 0: no training. The other keys of a training are absent.
FUSION_ONLY: Final[Parameters] = {"train": False}
#: What trial 1 does: the middle of the space; all evidence that a dataset holds.
FIRST_TRAINING: Final[Parameters] = {
    "labels": "spread+negatives",
    "learning_rate": 2e-4,
    "scale": 10.0,
    "batch_size": 32,
    "start": "champion",
}
#: Trials of a study that are drawn before TPE weighs what it saw; the fixed ones count.
_STARTUP_TRIALS: Final = 3


def search_space(*, base_differs: bool) -> dict[str, BaseDistribution]:
    """What a training may choose. `base_differs`: the champion's embedder is not the base's.

    `scale` is bounded because of what validation sees least: questions that hardly anybody asks now. The
    sharper the loss, the more of them a training forgets (docs/pipeline.md has the figures).
    """
    return {
        "labels": CategoricalDistribution(LABELLINGS),
        "learning_rate": FloatDistribution(5e-5, 5e-4, log=True),
        "scale": FloatDistribution(5.0, 20.0, log=True),
        "batch_size": CategoricalDistribution((32, 64)),
        "start": CategoricalDistribution(("champion", "base") if base_differs else ("champion",)),
    }


def next_parameters(
    number: int, finished: Sequence[FinishedTrial], *, seed: int, base_differs: bool
) -> Parameters:
    """The parameters of trial `number`; a function of the arguments alone.

    `finished`: earlier trials of this study in any order; those without a value count as failed. A trial
    whose parameters are not of this search space (an older release ran it) teaches nothing.
    """
    if number == 0:
        return dict(FUSION_ONLY)
    if number == 1:
        return {"train": True, **FIRST_TRAINING}
    space = search_space(base_differs=base_differs)
    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=_seed(seed, number), n_startup_trials=_STARTUP_TRIALS),
    )
    for trial in sorted(finished, key=lambda t: t.number):
        known = _as_optuna(trial, space)
        if known is not None and trial.number < number:
            study.add_trial(known)
    drawn = study.ask(space).params
    return {"train": True, **{name: drawn[name] for name in space}}


def _as_optuna(trial: FinishedTrial, space: dict[str, BaseDistribution]) -> optuna.trial.FrozenTrial | None:
    if trial.state == "failed" or trial.value is None:
        return optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL)
    if not set(space) <= set(trial.parameters):
        return None
    try:
        return optuna.trial.create_trial(
            params={name: trial.parameters[name] for name in space}, distributions=space, value=trial.value
        )
    except ValueError:
        return None


def _seed(seed: int, number: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])
