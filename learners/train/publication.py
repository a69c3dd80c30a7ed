"""From a finished trial to a version: complete on disk before anybody hears of it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec

from learners.pipeline.manifest import read_manifest
from learners.pipeline.publish import VersionExists, derive_version, remove_partial_versions
from learners.train.requests import PublishDone, PublishTask
from learners.train.trial_directory import read_trial
from schemas.versions import EMBEDDER_FOLDER, PipelineManifest, artifact_hash


def publish(task: PublishTask) -> PublishDone:
    """Publish the trial's pipeline as `task.version`; doing it again gives the same version.

    What a killed publisher left half written is removed. A whole version of that id with another content is
    replaced: the id is free in the lifecycle, so nobody was told of that one (the learner was killed between
    publishing and proposing, and publishes anew after an upgrade). Raises FileNotFoundError if the trial did
    not finish, VersionDamaged for a damaged champion.
    """
    target = Path(task.target)
    if target.parent.exists():
        remove_partial_versions(target.parent)
    try:
        manifest = _derive(task, target)
    except VersionExists:
        shutil.rmtree(target)
        manifest = _derive(task, target)
    return PublishDone(manifest_hash=artifact_hash(manifest))


def _derive(task: PublishTask, target: Path) -> PipelineManifest:
    trial = read_trial(Path(task.trial))
    champion = Path(task.champion)
    settings = read_manifest(champion).settings
    return derive_version(
        target,
        parent=champion,
        version=task.version,
        cause="search" if trial.embedder is None else "data",
        settings=msgspec.structs.replace(
            settings, embedder=trial.embedder or settings.embedder, fusion=trial.fusion
        ),
        embedder=None if trial.embedder is None else Path(task.trial) / EMBEDDER_FOLDER,
        dataset_hash=trial.dataset_hash,
    )
