"""What the daemon asks of its children and what they answer. Paths are absolute; files are complete.

freeze    episodes and documents as of the offsets → a dataset directory
trial     dataset + champion → parameters, a pipeline in the trial's directory, its validation score
publish   the best trial → a version directory, complete, synced and hashed
judge     champion + challenger + dataset → the verdict
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from learners.freeze.settings import FreezeSettings
from schemas.datasets import DatasetManifest
from schemas.lifecycle import Measure, PartitionOffsets, Verdict

#: A parameter of a trial, as it stands in `trial.finished`.
Parameter = str | int | float | bool | None


class FreezeTask(Struct, frozen=True, kw_only=True):
    """Make the dataset of a training."""

    tenant: str
    #: Files of msgpack: a list of `schemas.episodes.Episode`, a list of `learners.ports.CurrentDocument`.
    episodes: str
    documents: str
    offsets: dict[str, PartitionOffsets]
    #: Version directory of the base: its embedder, which never changes, draws the question groups.
    base: str
    #: The dataset lands in `<datasets>/<dataset_id>`.
    datasets: str
    seed: int
    #: The rules; they stand in the manifest.
    settings: FreezeSettings = FreezeSettings()


class FreezeDone(Struct, frozen=True, kw_only=True):
    """The dataset, or why there is too little to learn from."""

    manifest: DatasetManifest | None
    too_little: str = ""


class FinishedTrial(Struct, frozen=True, kw_only=True):
    """A trial of the same study that ended; from `trial.finished` events."""

    number: int
    state: Literal["complete", "failed"]
    parameters: dict[str, Parameter]
    value: float | None


class TrialTask(Struct, frozen=True, kw_only=True):
    """Run one trial: choose parameters (Optuna, from the finished ones), train or not, tune fusion, score."""

    number: int
    trials: int
    finished: tuple[FinishedTrial, ...]
    seed: int
    dataset: str
    champion: str
    base: str
    #: The trial's own directory; what lies there from an earlier try is overwritten.
    directory: str
    #: Cache of document vectors (SQLite).
    vectors: str
    max_questions: int
    threads: int


class TrialDone(Struct, frozen=True, kw_only=True):
    """The trial's score: nDCG@10 of the whole pipeline on the validation groups."""

    parameters: dict[str, Parameter]
    value: float
    seconds: float


class PublishTask(Struct, frozen=True, kw_only=True):
    """Make a version of a finished trial."""

    trial: str
    champion: str
    target: str
    version: str
    dataset_id: str


class PublishDone(Struct, frozen=True, kw_only=True):
    """The version is complete on disk."""

    manifest_hash: str


class JudgeTask(Struct, frozen=True, kw_only=True):
    """Compare a challenger with the champion on judge groups, once."""

    champion: str
    challenger: str
    dataset: str
    vectors: str
    margin: float
    alpha: float
    seed: int
    threads: int


class JudgeDone(Struct, frozen=True, kw_only=True):
    """The verdict and the measure behind it."""

    verdict: Verdict
    reason: str
    measure: Measure
    unlabelled_ratio: float
