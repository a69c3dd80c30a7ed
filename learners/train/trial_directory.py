"""What a trial leaves on disk; complete under its name, or absent.

trial.json   what it did and reached, and how its pipeline searches
embedder/    what it trained, in sentence-transformers format; absent if it trained nothing
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from learners.train.requests import Parameter
from schemas.versions import EmbedderSettings, FusionSettings

TRIAL_NAME: Final = "trial.json"


class Trial(Struct, frozen=True, kw_only=True):
    """The content of `trial.json`. `embedder` is None if the champion's is used as it is."""

    number: int
    parameters: dict[str, Parameter]
    value: float
    fusion: FusionSettings
    embedder: EmbedderSettings | None
    #: SHA-256 (hex) of the dataset's manifest.json.
    dataset_hash: str
    #: Mean loss of the last quarter of the training's steps.
    loss: float | None = None


def read_trial(directory: Path) -> Trial:
    """What a finished trial left. Raises FileNotFoundError if it did not finish."""
    return msgspec.json.decode((directory / TRIAL_NAME).read_bytes(), type=Trial)


@contextmanager
def staged_trial(directory: Path) -> Iterator[Path]:
    """An empty folder beside `directory` that replaces it when the block ends well."""
    stage = directory.with_name(f".{directory.name}.{os.getpid()}")
    stage.mkdir(parents=True)
    try:
        yield stage
        shutil.rmtree(directory, ignore_errors=True)
        stage.rename(directory)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def write_trial(stage: Path, trial: Trial) -> None:
    """Put `trial.json` into the folder of a trial."""
    (stage / TRIAL_NAME).write_bytes(msgspec.json.format(msgspec.json.encode(trial)))
