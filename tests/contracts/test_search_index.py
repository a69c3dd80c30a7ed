"""The contract of `SearchIndex`: what serves and the plain reference give the same answers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest

from learners.pipeline.exact_index import ExactIndex, make_analyzer
from learners.pipeline.index import Hit, IndexedDocument, IndexSnapshot, SearchIndex, Vector
from learners.pipeline.reference_index import ReferenceIndex
from schemas.versions import Bm25Settings, FusionSettings

DIMENSION = 8
DEPTH = 20
WORDS = ["card", "refund", "rate", "transfer", "limit", "pin", "abroad", "lost", "pending", "fee"]
FUSIONS = [
    FusionSettings(dense_weight=1.0),
    FusionSettings(dense_weight=0.0),
    FusionSettings(method="convex", dense_weight=0.35),
    FusionSettings(method="convex", dense_weight=0.9),
    FusionSettings(method="rrf", dense_weight=0.5),
    FusionSettings(method="rrf", dense_weight=0.8, rrf_k=10.0),
]
MakeIndex = Callable[[], SearchIndex]


def _exact() -> SearchIndex:
    return ExactIndex(DIMENSION, Bm25Settings())


def _reference() -> SearchIndex:
    return ReferenceIndex(DIMENSION, Bm25Settings(), make_analyzer("en_stem").analyze)


@pytest.fixture(params=[_reference, _exact], ids=["reference", "exact"])
def make_index(request: pytest.FixtureRequest) -> MakeIndex:
    made: MakeIndex = request.param
    return made


def _vector(rng: np.random.Generator) -> Vector:
    raw = rng.normal(size=DIMENSION)
    return np.asarray(raw / np.linalg.norm(raw), dtype=np.float32)


def _documents(count: int, seed: int = 0) -> list[IndexedDocument]:
    rng = np.random.default_rng(seed)
    return [
        IndexedDocument(
            document_id=f"d{number:03}",
            text=" ".join(rng.choice(WORDS, size=rng.integers(2, 12))),
            text_hash=f"hash {number}",
            vector=_vector(rng),
        )
        for number in range(count)
    ]


def _queries(count: int, seed: int = 1) -> list[tuple[str, Vector]]:
    rng = np.random.default_rng(seed)
    return [(" ".join(rng.choice(WORDS, size=rng.integers(1, 5))), _vector(rng)) for _ in range(count)]


def _filled(make_index: MakeIndex, documents: Iterable[IndexedDocument]) -> IndexSnapshot:
    return make_index().update(put=documents)


def _lists(snapshot: IndexSnapshot, k: int = 10) -> list[tuple[Hit, ...]]:
    return [
        snapshot.search(text, vector, k, fusion=fusion, depth=DEPTH)
        for text, vector in _queries(5)
        for fusion in FUSIONS
    ]


@pytest.mark.parametrize("fusion", FUSIONS, ids=lambda f: f"{f.method}-{f.dense_weight}")
def test_exact_equals_reference(fusion: FusionSettings) -> None:
    documents = _documents(60)
    exact, reference = _filled(_exact, documents), _filled(_reference, documents)
    for text, vector in _queries(20):
        got = exact.search(text, vector, DEPTH, fusion=fusion, depth=DEPTH)
        expected = reference.search(text, vector, DEPTH, fusion=fusion, depth=DEPTH)
        assert [hit.document_id for hit in got] == [hit.document_id for hit in expected]
        assert [hit.score for hit in got] == pytest.approx([hit.score for hit in expected], abs=1e-5)
        for ours, theirs in zip(got, expected, strict=True):
            assert (ours.rank, ours.text_hash) == (theirs.rank, theirs.text_hash)
            assert ours.dense_score == pytest.approx(theirs.dense_score, abs=1e-5)
            assert ours.bm25_score == pytest.approx(theirs.bm25_score, abs=1e-5)


def test_candidates_equal_reference() -> None:
    documents = _documents(60)
    exact, reference = _filled(_exact, documents), _filled(_reference, documents)
    for text, vector in _queries(20):
        got, expected = exact.candidates(text, vector, 7), reference.candidates(text, vector, 7)
        np.testing.assert_array_equal(got.positions, expected.positions)
        np.testing.assert_array_equal(got.dense_rank, expected.dense_rank)
        np.testing.assert_array_equal(got.bm25_rank, expected.bm25_rank)
        np.testing.assert_allclose(got.dense, expected.dense, atol=2e-6)
        np.testing.assert_allclose(got.bm25, expected.bm25, atol=1e-5)


def test_a_shorter_list_is_a_prefix(make_index: MakeIndex) -> None:
    snapshot = _filled(make_index, _documents(40))
    for short, long in zip(_lists(snapshot, 3), _lists(snapshot, DEPTH), strict=True):
        assert short == long[: len(short)]


def test_history_does_not_change_an_answer(make_index: MakeIndex) -> None:
    documents = _documents(30)
    index = make_index()
    index.update(put=reversed(documents[10:]))
    index.update(put=[*_documents(10, seed=7), documents[20]])
    index.update(put=documents[:10], remove=["d025", "never there"])
    index.update(put=[documents[25]])
    assert _lists(index.snapshot()) == _lists(_filled(make_index, documents))


def test_the_last_put_of_an_id_wins_and_put_beats_remove(make_index: MakeIndex) -> None:
    first, second = _documents(1)[0], _documents(1, seed=9)[0]
    snapshot = make_index().update(put=[first, second], remove=[first.document_id])
    assert snapshot.document_ids == ("d000",)
    hit = snapshot.search("", second.vector, 1, fusion=FUSIONS[0], depth=DEPTH)[0]
    assert hit.dense_score == pytest.approx(1.0, abs=1e-5)


def test_a_removed_document_is_not_found_and_leaves_no_trace_in_scores(make_index: MakeIndex) -> None:
    documents = _documents(30)
    index = make_index()
    index.update(put=documents)
    snapshot = index.update(remove=[d.document_id for d in documents[15:]])
    assert _lists(snapshot) == _lists(_filled(make_index, documents[:15]))


def test_copies_of_a_document_tie_by_id(make_index: MakeIndex) -> None:
    one = _documents(1)[0]
    copies = [IndexedDocument(f"copy {n:02}", one.text, one.text_hash, one.vector) for n in range(15)]
    snapshot = _filled(make_index, [*_documents(20, seed=3), *reversed(copies)])
    for fusion in FUSIONS:
        hits = snapshot.search(one.text, one.vector, DEPTH, fusion=fusion, depth=DEPTH)
        listed = [hit.document_id for hit in hits if hit.document_id.startswith("copy")]
        assert listed == [f"copy {n:02}" for n in range(15)]


def test_an_old_snapshot_stays_as_it_was(make_index: MakeIndex) -> None:
    index = make_index()
    old = index.update(put=_documents(20))
    before = _lists(old)
    index.update(put=_documents(20, seed=5), remove=["d003"])
    assert _lists(old) == before
    assert _lists(index.snapshot()) != before


def test_a_search_never_sees_half_an_update(make_index: MakeIndex) -> None:
    index = make_index()
    states = [_documents(12, seed=seed) for seed in range(6)]
    index.update(put=states[0])
    allowed = {frozenset(d.text_hash + d.text for d in state) for state in states}
    seen: list[bool] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            snapshot = index.snapshot()
            hits = snapshot.search("card", states[0][0].vector, 12, fusion=FUSIONS[0], depth=DEPTH)
            texts = {d.text_hash + d.text for state in states for d in state if _is_hit(d, hits)}
            seen.append(len(hits) == 12 and texts in allowed)

    def _is_hit(document: IndexedDocument, hits: tuple[Hit, ...]) -> bool:
        cosine = float(document.vector @ states[0][0].vector)
        return any(
            h.document_id == document.document_id and h.dense_score == pytest.approx(cosine, abs=1e-5)
            for h in hits
        )

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for _ in range(3):
            for state in states:
                index.update(put=state)
    finally:
        done.set()
        reader.join(timeout=30)
    assert seen
    assert all(seen)


def test_an_empty_index_and_a_query_without_tokens_give_nothing_lexical(make_index: MakeIndex) -> None:
    empty = make_index().snapshot()
    text, vector = _queries(1)[0]
    assert all(empty.search(text, vector, 5, fusion=fusion, depth=DEPTH) == () for fusion in FUSIONS)
    snapshot = _filled(make_index, _documents(10))
    assert snapshot.search("?! …", None, 5, fusion=FusionSettings(dense_weight=0.0), depth=DEPTH) == ()
    both = snapshot.search("?! …", vector, 5, fusion=FusionSettings(dense_weight=0.5), depth=DEPTH)
    assert [hit.bm25_score for hit in both] == [None] * 5


def test_stems_and_punctuation_match(make_index: MakeIndex) -> None:
    texts = ["Refunds, pending!", "I was refunded twice", "nothing here"]
    documents = [
        IndexedDocument(f"d{n}", text, "", _vector(np.random.default_rng(n))) for n, text in enumerate(texts)
    ]
    hits = _filled(make_index, documents).search(
        "REFUND (refund?) AND title:x OR", None, 5, fusion=FusionSettings(dense_weight=0.0), depth=DEPTH
    )
    assert {hit.document_id for hit in hits} == {"d0", "d1"}


def test_a_query_that_cannot_be_answered_is_refused(make_index: MakeIndex) -> None:
    snapshot = _filled(make_index, _documents(5))
    text, vector = _queries(1)[0]
    with pytest.raises(ValueError, match="depth"):
        snapshot.search(text, vector, DEPTH + 1, fusion=FUSIONS[2], depth=DEPTH)
    with pytest.raises(ValueError, match="k 0"):
        snapshot.search(text, vector, 0, fusion=FUSIONS[2], depth=DEPTH)
    with pytest.raises(ValueError, match="no query vector"):
        snapshot.search(text, None, 5, fusion=FUSIONS[2], depth=DEPTH)
    with pytest.raises(ValueError, match="shape"):
        snapshot.search(text, vector[:-1], 5, fusion=FUSIONS[2], depth=DEPTH)


@pytest.mark.parametrize(
    "bad", [np.zeros(DIMENSION - 1, np.float32), np.full(DIMENSION, np.nan, np.float32)], ids=["short", "nan"]
)
def test_a_bad_vector_changes_nothing(make_index: MakeIndex, bad: Vector) -> None:
    index = make_index()
    before = index.update(put=_documents(5))
    with pytest.raises(ValueError, match="'bad'"):
        index.update(put=[*_documents(3, seed=4), IndexedDocument("bad", "text", "", bad)])
    assert index.snapshot() is before


def test_exact_refuses_parameters_that_it_cannot_set() -> None:
    with pytest.raises(ValueError, match=r"k1 0\.9"):
        ExactIndex(DIMENSION, Bm25Settings(k1=0.9))
