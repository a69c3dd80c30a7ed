"""Version directories without a model: manifests, damage, numbering, publishing, kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from learners.pipeline.manifest import (
    VersionDamaged,
    describe_file,
    package_differences,
    read_manifest,
    relative_files,
    verify_version,
)
from learners.pipeline.publish import (
    VersionExists,
    create_base_version,
    derive_version,
    export_version,
    remove_partial_versions,
)
from schemas.versions import (
    MANIFEST_NAME,
    EmbedderSettings,
    FusionSettings,
    PipelineManifest,
    PipelineSettings,
    artifact_hash,
    decode_manifest,
    encode_manifest,
    next_version_id,
    parse_version_id,
)

SETTINGS = PipelineSettings(embedder=EmbedderSettings(source="made by hand", dimension=3))


def _version(directory: Path, version: str = "1.0.0", weights: bytes = b"weights" * 1000) -> PipelineManifest:
    embedder = directory / "embedder"
    embedder.mkdir(parents=True)
    (embedder / "modules.json").write_text("[]")
    (embedder / "model.safetensors").write_bytes(weights)
    files = tuple(describe_file(directory, path) for path in relative_files(directory))
    manifest = PipelineManifest(version=version, cause="base_model", settings=SETTINGS, files=files)
    (directory / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
    return manifest


@pytest.fixture
def base(tmp_path: Path) -> Path:
    directory = tmp_path / "store" / "1.0.0"
    _version(directory)
    return directory


def test_a_manifest_survives_its_bytes(base: Path) -> None:
    manifest = verify_version(base)
    assert decode_manifest(encode_manifest(manifest)) == manifest
    assert artifact_hash(manifest) == artifact_hash(read_manifest(base))
    assert json.loads((base / MANIFEST_NAME).read_text())["settings"]["fusion"]["dense_weight"] == 1.0


def test_old_and_new_readers_understand_each_other(base: Path) -> None:
    written = json.loads((base / MANIFEST_NAME).read_text())
    written["from_the_future"] = {"x": 1}
    written["settings"]["bm25"]["from_the_future"] = True
    for optional in ("packages", "parent", "dataset_hash", "format_version"):
        del written[optional]
    del written["settings"]["depth"]
    assert decode_manifest(json.dumps(written).encode()) == read_manifest(base)


MODEL = "embedder/model.safetensors"
EXTRA = "embedder/adapter.json"


@pytest.mark.parametrize(
    ("path", "content", "said"),
    [
        (MODEL, b"Weights" + b"weights" * 999, "sha-256"),
        (MODEL, b"short", "7000 bytes, got 5 bytes"),
        (MODEL, None, "got none"),
        (EXTRA, b"{}", "manifest omits"),
        (MANIFEST_NAME, None, "no such file"),
        (MANIFEST_NAME, b'{"version": 1', "manifest of a version"),
    ],
)
def test_damage_is_named(base: Path, path: str, content: bytes | None, said: str) -> None:
    if content is None:
        (base / path).unlink()
    else:
        (base / path).write_bytes(content)
    with pytest.raises(VersionDamaged, match=said) as caught:
        verify_version(base)
    assert caught.value.path == path
    assert "restore" in str(caught.value)


def test_a_newer_format_and_an_escaping_path_are_refused(base: Path) -> None:
    manifest = read_manifest(base)
    newer = msgspec.structs.replace(manifest, format_version=99)
    (base / MANIFEST_NAME).write_bytes(encode_manifest(newer))
    with pytest.raises(VersionDamaged, match="upgrade"):
        read_manifest(base)
    escaping = msgspec.structs.replace(manifest.files[0], path="../../etc/passwd")
    (base / MANIFEST_NAME).write_bytes(encode_manifest(msgspec.structs.replace(manifest, files=(escaping,))))
    with pytest.raises(VersionDamaged, match="inside the version"):
        verify_version(base)


def test_package_differences_name_both_versions(base: Path) -> None:
    manifest = msgspec.structs.replace(read_manifest(base), packages={"numpy": "0.1", "torch-of-old": "1"})
    differences = package_differences(manifest)
    assert differences["numpy"][0] == "0.1"
    assert differences["numpy"][1] not in (None, "0.1")
    assert differences["torch-of-old"] == ("1", None)


def test_a_fusion_only_version_shares_the_weights(base: Path) -> None:
    target = base.parent / "1.1.0"
    settings = msgspec.structs.replace(SETTINGS, fusion=FusionSettings(dense_weight=0.4))
    made = derive_version(target, parent=base, version="1.1.0", cause="search", settings=settings)
    assert verify_version(target) == made
    assert (made.parent, made.settings.fusion.dense_weight) == ("1.0.0", 0.4)
    parent = read_manifest(base)
    assert made.embedder_hash == parent.embedder_hash
    assert made.document_encoding_hash == parent.document_encoding_hash
    assert artifact_hash(made) != artifact_hash(parent)
    assert (target / "embedder/model.safetensors").samefile(base / "embedder/model.safetensors")


def test_a_trained_embedder_shares_only_what_did_not_change(base: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    (trained / "modules.json").write_text("[]")
    (trained / "model.safetensors").write_bytes(b"other" * 100)
    target = base.parent / "1.1.0"
    made = derive_version(
        target, parent=base, version="1.1.0", cause="data", embedder=trained, dataset_hash="ab" * 32
    )
    assert verify_version(target).dataset_hash == "ab" * 32
    assert made.embedder_hash != read_manifest(base).embedder_hash
    assert (target / "embedder/modules.json").samefile(base / "embedder/modules.json")
    assert (target / "embedder/model.safetensors").read_bytes() == b"other" * 100


def test_publishing_again_is_no_error_but_another_content_is(base: Path) -> None:
    target = base.parent / "1.1.0"
    once = derive_version(target, parent=base, version="1.1.0", cause="search")
    assert derive_version(target, parent=base, version="1.1.0", cause="search") == once
    with pytest.raises(VersionExists, match="next version id"):
        derive_version(target, parent=base, version="1.1.0", cause="data")
    assert verify_version(target) == once
    assert sorted(path.name for path in base.parent.iterdir()) == ["1.0.0", "1.1.0"]


def test_a_damaged_parent_has_no_children(base: Path) -> None:
    (base / "embedder/model.safetensors").write_bytes(b"flipped")
    with pytest.raises(VersionDamaged):
        derive_version(base.parent / "1.1.0", parent=base, version="1.1.0", cause="search")
    assert not (base.parent / "1.1.0").exists()


def test_pickles_and_other_folders_are_no_embedders(base: Path, tmp_path: Path) -> None:
    trained = tmp_path / "trained"
    trained.mkdir()
    target = base.parent / "1.1.0"
    with pytest.raises(ValueError, match=r"modules\.json"):
        derive_version(target, parent=base, version="1.1.0", cause="data", embedder=trained)
    (trained / "modules.json").write_text("[]")
    (trained / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="safetensors"):
        derive_version(target, parent=base, version="1.1.0", cause="data", embedder=trained)
    with pytest.raises(ValueError, match="pypi"):
        create_base_version(target, model="pypi:something-else")
    assert sorted(path.name for path in base.parent.iterdir()) == ["1.0.0"]


def test_an_export_shares_nothing(base: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" / "mine"
    assert export_version(base, target) == verify_version(base) == verify_version(target)
    assert not (target / "embedder/model.safetensors").samefile(base / "embedder/model.safetensors")


_PUBLISHER = """
import sys
from pathlib import Path
from learners.pipeline.publish import derive_version
base = Path(sys.argv[1])
for n in range(1, 100_000):
    derive_version(base.parent / f"1.{n}.0", parent=base, version=f"1.{n}.0", cause="search", settings=None)
    print(n, flush=True)
"""


@pytest.mark.service
def test_after_kill_9_every_named_version_is_whole(tmp_path: Path) -> None:
    base = tmp_path / "store" / "1.0.0"
    _version(base, weights=os.urandom(4_000_000))
    publisher = subprocess.Popen(
        [sys.executable, "-c", _PUBLISHER, str(base)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    try:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == b"1\n"
        deadline = time.monotonic() + 30
        # The last moment at which a version is surely being written: its unfinished folder is there.
        while not list(base.parent.glob(".*partial*")):
            assert time.monotonic() < deadline
    finally:
        publisher.send_signal(signal.SIGKILL)
        publisher.communicate()
    remove_partial_versions(base.parent)
    assert not list(base.parent.glob(".*"))
    named = sorted(base.parent.iterdir())
    assert len(named) >= 2
    for directory in named:
        assert verify_version(directory).version == directory.name


def test_a_fresh_import_loads_no_model_library() -> None:
    code = (
        "import sys, learners.pipeline.pipeline, learners.pipeline.publish, learners.pipeline.tuning\n"
        "print(sorted({'torch', 'transformers', 'sentence_transformers', 'pandas'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=root)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize(
    ("parent", "cause", "taken", "expected"),
    [
        (None, "base_model", [], "1.0.0"),
        (None, "base_model", ["1.3.0", "2.0.0"], "3.0.0"),
        ("1.0.0", "data", ["1.0.0"], "1.1.0"),
        ("1.0.0", "search", ["1.0.0", "1.1.0", "1.10.0"], "1.11.0"),
        ("1.1.0", "packaging", ["1.1.0", "1.1.1", "1.2.5"], "1.1.2"),
        ("1.4.0", "base_model", ["1.4.0"], "2.0.0"),
        ("1.4.0", "data", [], "1.5.0"),
        ("2.0.1", "data", ["1.9.0", "2.0.1"], "2.1.0"),
    ],
)
def test_version_ids_grow_by_cause(parent: str | None, cause: str, taken: list[str], expected: str) -> None:
    assert next_version_id(parent, cause, taken) == expected  # type: ignore[arg-type]


def test_version_ids_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match="needs a parent"):
        next_version_id(None, "data", [])
    with pytest.raises(ValueError, match=r"1\.2\.0"):
        parse_version_id("1.2")
    assert sorted(["1.10.0", "1.9.0"], key=parse_version_id) == ["1.9.0", "1.10.0"]
