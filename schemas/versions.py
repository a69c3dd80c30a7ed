"""What a version is: `pipeline.json`, the manifest of one whole retrieval pipeline; and how it is numbered.

A version is a directory: `pipeline.json` and the files that it lists. Readers ignore fields they do not know;
new fields have defaults; `format_version` grows only when an old reader would misread the directory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

#: Readers refuse a directory with a larger number than this.
FORMAT_VERSION: Final = 1
MANIFEST_NAME: Final = "pipeline.json"
#: Folder of a version directory that plain sentence-transformers opens.
EMBEDDER_FOLDER: Final = "embedder"

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="Lower-case hex SHA-256.")]
VersionId = Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+$", description="major.minor.patch")]
#: Why a version exists; decides which part of its id grows: major, minor, minor, patch.
Cause = Literal["base_model", "data", "search", "packaging"]
FusionMethod = Literal["convex", "rrf"]
Analyzer = Literal["en_stem", "default"]


class ArtifactFile(Struct, frozen=True, kw_only=True):
    """One file of a version."""

    path: Annotated[
        str, Meta(min_length=1, description="Relative to the version directory, with forward slashes.")
    ]
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=0)]


class EmbedderSettings(Struct, frozen=True, kw_only=True):
    """How texts become vectors. `source` says where the base weights came from; it is never opened again."""

    source: str
    dimension: Annotated[int, Meta(ge=1)]
    query_prompt: Annotated[str, Meta(description="Put before every query.")] = ""
    document_prompt: Annotated[str, Meta(description="Put before every document.")] = ""
    query_max_tokens: Annotated[int, Meta(ge=1)] = 256
    document_max_tokens: Annotated[int, Meta(ge=1)] = 256
    normalize: Annotated[
        bool, Meta(description="Vectors have length 1, so that a dot product is a cosine.")
    ] = True


class Bm25Settings(Struct, frozen=True, kw_only=True):
    """Lexical arm. An index that cannot set `k1` and `b` refuses values other than its own."""

    analyzer: Analyzer = "en_stem"
    k1: Annotated[float, Meta(ge=0)] = 1.2
    b: Annotated[float, Meta(ge=0, le=1)] = 0.75


class FusionSettings(Struct, frozen=True, kw_only=True):
    """How the two arms become one list; `learners.pipeline.fusion` has the formulas.

    An arm whose weight is 0 is not consulted: `dense_weight` 1 is dense only, 0 is BM25 only.
    """

    method: FusionMethod = "convex"
    dense_weight: Annotated[float, Meta(ge=0, le=1, description="The BM25 arm has 1 - dense_weight.")] = 1.0
    rrf_k: Annotated[float, Meta(gt=0, description="Only for method rrf.")] = 60.0


class PipelineSettings(Struct, frozen=True, kw_only=True):
    """All that decides which documents a query finds, but the weights of the embedder."""

    embedder: EmbedderSettings
    document_template: Annotated[
        str, Meta(description="What is indexed; {title} and {text} are filled in.")
    ] = "{title}\n{text}"
    bm25: Bm25Settings = Bm25Settings()
    fusion: FusionSettings = FusionSettings()
    depth: Annotated[int, Meta(ge=1, description="Candidates taken from each arm.")] = 100


class PipelineManifest(Struct, frozen=True, kw_only=True):
    """The content of `pipeline.json`. Two equal manifests are the same version, byte for byte."""

    version: VersionId
    cause: Cause
    settings: PipelineSettings
    files: Annotated[
        tuple[ArtifactFile, ...], Meta(description="Sorted by path; the manifest itself is not listed.")
    ]
    parent: Annotated[VersionId | None, Meta(description="The version that this one was made from.")] = None
    dataset_hash: Annotated[Sha256 | None, Meta(description="The frozen dataset that it learned from.")] = (
        None
    )
    packages: Annotated[
        dict[str, str], Meta(description="Versions that wrote it, by distribution name.")
    ] = {}
    format_version: Annotated[int, Meta(ge=1)] = FORMAT_VERSION

    @property
    def embedder_hash(self) -> str:
        """SHA-256 over paths and hashes of the embedder's files: equal weights, equal hash."""
        return _digest([(f.path, f.sha256) for f in self.files if f.path.startswith(f"{EMBEDDER_FOLDER}/")])

    @property
    def document_encoding_hash(self) -> str:
        """What a stored document vector depends on besides the document's text.

        Versions that differ in search settings only share it, and so share their vectors.
        """
        embedder = self.settings.embedder
        return _digest(
            [
                self.embedder_hash,
                embedder.document_prompt,
                embedder.document_max_tokens,
                embedder.normalize,
                embedder.dimension,
            ]
        )


def _digest(content: object) -> str:
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()


def encode_manifest(manifest: PipelineManifest) -> bytes:
    """The one byte form of a manifest: sorted keys, two spaces, a newline at the end."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def decode_manifest(content: bytes) -> PipelineManifest:
    """Read `pipeline.json`; unknown fields are ignored.

    Raises `msgspec.DecodeError` (or its child `ValidationError`) if it is no manifest. A larger
    `format_version` is read as far as possible: refusing it is the caller's part.
    """
    return msgspec.json.decode(content, type=PipelineManifest)


def artifact_hash(manifest: PipelineManifest) -> str:
    """SHA-256 of `pipeline.json`: names the whole artifact, because the manifest names every file's hash."""
    return hashlib.sha256(encode_manifest(manifest)).hexdigest()


def parse_version_id(version: str) -> tuple[int, int, int]:
    """`"1.2.0"` as (1, 2, 0), which sorts. Raises ValueError on anything else."""
    parts = version.split(".")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f"expected a version id like 1.2.0, got {version!r}")
    major, minor, patch = (int(part) for part in parts)
    return major, minor, patch


def next_version_id(parent: str | None, cause: Cause, taken: Iterable[str]) -> str:
    """The next free id: base model = major, data or search = minor, packaging = patch.

    `taken` are all ids ever given for this tenant, rejected ones too: an id is never used twice. Minor
    and patch count within the parent's line. Without a parent only a base model can start a line: the
    first is 1.0.0.
    """
    ids = [parse_version_id(version) for version in taken]
    if parent is None:
        if cause != "base_model":
            raise ValueError(f"a version with cause {cause!r} needs a parent; only a base model has none")
        return f"{max((major for major, _, _ in ids), default=0) + 1}.0.0"
    ids.append(parse_version_id(parent))
    major, minor, _ = parse_version_id(parent)
    if cause == "base_model":
        return f"{max(i[0] for i in ids) + 1}.0.0"
    if cause == "packaging":
        return f"{major}.{minor}.{max(i[2] for i in ids if i[:2] == (major, minor)) + 1}"
    return f"{major}.{max(i[1] for i in ids if i[0] == major) + 1}.0"
