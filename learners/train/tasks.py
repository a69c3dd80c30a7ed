"""The functions that children run, by name (`learners.children`): a request in, an answer out.

Each imports what it needs when it is called: publishing needs no torch, and a child that freezes no Optuna.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from learners.ports import CurrentDocument
from learners.train.requests import (
    FreezeDone,
    FreezeTask,
    JudgeDone,
    JudgeTask,
    PublishDone,
    PublishTask,
    TrialDone,
    TrialTask,
)
from schemas.episodes import Episode


def freeze_dataset(task: FreezeTask) -> FreezeDone:
    """Make the dataset of a training, or say what is missing for one.

    Raises msgspec.DecodeError for files that are not what the task says, VersionDamaged for the base.
    """
    from learners.freeze.freeze import freeze  # noqa: PLC0415
    from learners.freeze.readiness import too_little  # noqa: PLC0415
    from learners.pipeline.embedder import limit_cpu_threads, load_embedder  # noqa: PLC0415
    from learners.pipeline.manifest import verify_version  # noqa: PLC0415
    from schemas.versions import EMBEDDER_FOLDER  # noqa: PLC0415

    # One thread gives the same bits wherever it runs: groups must not depend on how many cores there were.
    limit_cpu_threads(1)
    base = Path(task.base)
    embedder = load_embedder(base / EMBEDDER_FOLDER, verify_version(base).settings.embedder)
    frozen = freeze(
        msgspec.msgpack.decode(Path(task.episodes).read_bytes(), type=list[Episode]),
        msgspec.msgpack.decode(Path(task.documents).read_bytes(), type=list[CurrentDocument]),
        tenant=task.tenant,
        offsets=task.offsets,
        encode=embedder.encode_queries,
        settings=task.settings,
        root=Path(task.datasets),
        seed=task.seed,
    )
    if missing := too_little(frozen.counts, task.settings):
        return FreezeDone(manifest=None, too_little=f"too little feedback to train on: {missing}")
    return FreezeDone(manifest=frozen.manifest)


def run_trial(task: TrialTask) -> TrialDone:
    """Run one trial of the study; its directory is complete when this returns."""
    began = time.perf_counter()
    from learners.train.trial import perform_trial  # noqa: PLC0415

    trial = perform_trial(task)
    return TrialDone(
        parameters=trial.parameters, value=trial.value, seconds=round(time.perf_counter() - began, 3)
    )


def publish_trial(task: PublishTask) -> PublishDone:
    """Make a version of a finished trial; it is complete and synced when this returns."""
    from learners.train.publication import publish  # noqa: PLC0415

    return publish(task)


def judge_version(task: JudgeTask) -> JudgeDone:
    """Compare a challenger with the champion on the judge's questions."""
    from learners.train.judging import judge  # noqa: PLC0415

    return judge(task)
