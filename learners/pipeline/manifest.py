"""A version directory on disk: what it must look like, and the proof that it still does."""

from __future__ import annotations

import hashlib
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from schemas.errors import Fatal
from schemas.versions import FORMAT_VERSION, MANIFEST_NAME, ArtifactFile, PipelineManifest, decode_manifest

_CHUNK_BYTES: Final = 1 << 20
#: Distributions whose version can change what a pipeline answers.
PACKAGES: Final = (
    "numpy",
    "safetensors",
    "sentence-transformers",
    "tantivy",
    "tokenizers",
    "torch",
    "transformers",
)


class VersionDamaged(Fatal):
    """A version directory is not what its manifest says, so nothing may be served or judged from it.

    `directory`: the version; `path`: the file in question, relative to it; `expected`, `got`: in words.
    """

    def __init__(self, directory: Path, path: str, *, expected: str, got: str) -> None:
        super().__init__(
            f"{directory / path}: expected {expected}, got {got}. The version is damaged: restore it "
            "from where it was published, or serve another version (`ratchet model list`)"
        )
        self.directory = directory
        self.path = path
        self.expected = expected
        self.got = got


def read_manifest(directory: Path) -> PipelineManifest:
    """The manifest of the version in `directory`; its files are not looked at (`verify_version` does).

    Raises VersionDamaged if there is none, if it cannot be read, if its format is newer than this code,
    or if a listed path leaves the directory.
    """
    path = directory / MANIFEST_NAME
    try:
        manifest = decode_manifest(path.read_bytes())
    except FileNotFoundError:
        raise VersionDamaged(
            directory, MANIFEST_NAME, expected="the manifest of a version", got="no such file"
        ) from None
    except msgspec.DecodeError as error:
        raise VersionDamaged(
            directory, MANIFEST_NAME, expected="the manifest of a version", got=str(error)
        ) from error
    if manifest.format_version > FORMAT_VERSION:
        raise VersionDamaged(
            directory,
            MANIFEST_NAME,
            expected=f"format version {FORMAT_VERSION} or older",
            got=f"{manifest.format_version}, written by a newer Ratchet: upgrade this one",
        )
    for file in manifest.files:
        inside = PurePosixPath(file.path)
        if inside.is_absolute() or ".." in inside.parts:
            raise VersionDamaged(
                directory, MANIFEST_NAME, expected="paths inside the version", got=f"{file.path!r}"
            )
    return manifest


def verify_version(directory: Path) -> PipelineManifest:
    """Read the manifest and every file, compare sizes and hashes, and refuse files that nobody listed.

    An unlisted file is damage, too: sentence-transformers would load some of them. Costs one pass over
    the bytes. Raises VersionDamaged at the first difference, in order of path.
    """
    manifest = read_manifest(directory)
    listed = {file.path for file in manifest.files} | {MANIFEST_NAME}
    for file in manifest.files:
        _verify_file(directory, file)
    for path in relative_files(directory):
        if path not in listed:
            raise VersionDamaged(directory, path, expected="no file that the manifest omits", got="this one")
    return manifest


def _verify_file(directory: Path, file: ArtifactFile) -> None:
    path = directory / file.path
    if not path.is_file():
        raise VersionDamaged(directory, file.path, expected=f"a file of {file.size_bytes} bytes", got="none")
    size_bytes = path.stat().st_size
    if size_bytes != file.size_bytes:
        raise VersionDamaged(
            directory, file.path, expected=f"{file.size_bytes} bytes", got=f"{size_bytes} bytes"
        )
    sha256 = hash_file(path)
    if sha256 != file.sha256:
        raise VersionDamaged(directory, file.path, expected=f"sha-256 {file.sha256}", got=sha256)


def relative_files(directory: Path) -> list[str]:
    """Paths of all files below `directory`, relative to it, with forward slashes, sorted."""
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def describe_file(directory: Path, path: str) -> ArtifactFile:
    """The manifest's line about a file as it is now."""
    full = directory / path
    return ArtifactFile(path=path, sha256=hash_file(full), size_bytes=full.stat().st_size)


def hash_file(path: Path) -> str:
    """Lower-case hex SHA-256 of a file's content."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def installed_packages() -> dict[str, str]:
    """Versions of `PACKAGES` in this environment; what is not installed is left out."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def package_differences(manifest: PipelineManifest) -> dict[str, tuple[str, str | None]]:
    """Distribution → (version that wrote the manifest, version here or None) where they differ.

    A difference is no error; it is where to look first when vectors are not what they were.
    """
    here = installed_packages()
    return {
        name: (wrote, here.get(name)) for name, wrote in manifest.packages.items() if here.get(name) != wrote
    }
