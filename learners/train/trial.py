"""One trial of a study: choose parameters, train or not, tune fusion, score, and leave the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from learners.freeze.dataset import Dataset
from learners.pipeline.embedder import (
    Embedder,
    limit_cpu_threads,
    load_base_model,
    load_embedder,
    save_embedder,
)
from learners.pipeline.manifest import verify_version
from learners.pipeline.pipeline import Pipeline
from learners.pipeline.vectors import DocumentVectors
from learners.train.corpus import dataset_hash, stored_documents
from learners.train.labelling import labelled, make_examples
from learners.train.requests import Parameter, TrialTask
from learners.train.scoring import tune_and_score
from learners.train.study import next_parameters
from learners.train.trainer import TrainingSettings, train_embedder
from learners.train.trial_directory import Trial, staged_trial, write_trial
from schemas.documents import DocumentStored
from schemas.versions import EMBEDDER_FOLDER, EmbedderSettings, PipelineManifest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

_FEWEST_STEPS: Final = 12
_MOST_EPOCHS: Final = 5


def perform_trial(task: TrialTask) -> Trial:
    """Run the trial and leave its directory. The same task gives the same trial on one kind of machine.

    Raises VersionDamaged, Fatal for a damaged dataset, ValueError if there is too little to learn from.
    """
    limit_cpu_threads(task.threads)
    dataset = Dataset(Path(task.dataset))
    documents = stored_documents(dataset.documents())
    champion_directory = Path(task.champion)
    champion = verify_version(champion_directory)
    base_directory = Path(task.base)
    base = champion if base_directory == champion_directory else verify_version(base_directory)
    parameters = next_parameters(
        task.number,
        task.finished,
        seed=task.seed,
        base_differs=base.embedder_hash != champion.embedder_hash,
    )
    model: SentenceTransformer | None = None
    loss: float | None = None
    if parameters["train"]:
        start = base_directory if parameters["start"] == "base" else champion_directory
        model, loss = _train(task, parameters, start, champion, dataset, documents)
    pipeline = _open_pipeline(task, champion, model)
    pipeline.update_documents(documents)
    scored = tune_and_score(pipeline, labelled(dataset.validation()))
    with staged_trial(Path(task.directory)) as stage:
        trial = Trial(
            number=task.number,
            parameters=parameters,
            value=scored.value,
            fusion=scored.fusion,
            embedder=None if model is None else _save(model, stage / EMBEDDER_FOLDER, champion),
            dataset_hash=dataset_hash(Path(task.dataset)),
            loss=loss,
        )
        write_trial(stage, trial)
    return trial


def _train(
    task: TrialTask,
    parameters: dict[str, Parameter],
    start: Path,
    champion: PipelineManifest,
    dataset: Dataset,
    documents: Sequence[DocumentStored],
) -> tuple[SentenceTransformer, float]:
    model = load_base_model(str(start / EMBEDDER_FOLDER))
    examples = make_examples(
        dataset.train(), str(parameters["labels"]), limit=task.max_questions, seed=task.seed
    )
    batch_size = int(parameters["batch_size"] or 0)
    settings = TrainingSettings(
        learning_rate=float(parameters["learning_rate"] or 0),
        scale=float(parameters["scale"] or 0),
        batch_size=batch_size,
        epochs=epochs_for(len(examples), batch_size),
    )
    return model, train_embedder(model, champion.settings, examples, documents, settings, seed=task.seed)


def epochs_for(examples: int, batch_size: int) -> int:
    """One pass over the questions; more where that gives the optimiser too few steps to get anywhere."""
    return max(1, min(_MOST_EPOCHS, round(_FEWEST_STEPS * batch_size / max(1, examples))))


def _open_pipeline(
    task: TrialTask, champion: PipelineManifest, model: SentenceTransformer | None
) -> Pipeline:
    """The champion's pipeline around what was trained. Only vectors of published embedders are kept."""
    settings = champion.settings.embedder
    if model is not None:
        return Pipeline(champion, Embedder(model, settings))
    embedder = load_embedder(Path(task.champion) / EMBEDDER_FOLDER, settings)
    return Pipeline(champion, embedder, vectors=DocumentVectors(Path(task.vectors)))


def _save(model: SentenceTransformer, directory: Path, champion: PipelineManifest) -> EmbedderSettings:
    settings = champion.settings.embedder
    return save_embedder(
        model,
        directory,
        source=settings.source,
        query_prompt=settings.query_prompt,
        document_prompt=settings.document_prompt,
        max_tokens=settings.document_max_tokens,
    )
