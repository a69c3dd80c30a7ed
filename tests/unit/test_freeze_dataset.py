"""A dataset on disk: the same bytes again, nothing of the judge in training, and is it enough."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from learners.freeze.dataset import Dataset
from learners.freeze.freeze import Frozen, freeze
from learners.freeze.groups import Vectors
from learners.freeze.readiness import FeedbackCounts, readiness, too_little
from learners.freeze.settings import FreezeSettings
from learners.ports import CurrentDocument, Offsets
from schemas.episodes import Episode
from schemas.errors import Fatal
from tests.unit.feedback_log import CORPUS, encode, episode, feedback_log, pair

SETTINGS = FreezeSettings()
OFFSETS: Offsets = {"interactions": {"0": 12}}


def make(
    root: Path,
    episodes: list[Episode],
    documents: list[CurrentDocument] = CORPUS,
    settings: FreezeSettings = SETTINGS,
    offsets: Offsets = OFFSETS,
    seed: int = 0,
) -> Frozen:
    return freeze(
        episodes,
        documents,
        tenant="t",
        offsets=offsets,
        encode=encode,
        settings=settings,
        root=root,
        seed=seed,
    )


def test_the_same_log_gives_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    episodes = feedback_log(600)
    first = make(tmp_path / "one", episodes)
    second = make(tmp_path / "two", episodes[::-1], CORPUS[::-1])
    assert first == second
    for name in (*first.manifest.files, "manifest.json"):
        one, two = (tmp_path / root / first.manifest.dataset_id / name for root in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
    assert [path.name for path in (tmp_path / "one").iterdir()] == [first.manifest.dataset_id]


def test_a_second_freeze_of_the_same_content_finds_the_first(tmp_path: Path) -> None:
    episodes = feedback_log(300)
    first = make(tmp_path, episodes)
    assert make(tmp_path, episodes, offsets={"interactions": {"0": 99}}) == first


def test_rules_seed_and_content_make_the_id(tmp_path: Path) -> None:
    episodes = feedback_log(300)
    ids = {
        make(tmp_path, episodes).manifest.dataset_id,
        make(tmp_path, episodes, seed=1).manifest.dataset_id,
        make(tmp_path, episodes, settings=FreezeSettings(neighbours=41)).manifest.dataset_id,
        make(tmp_path, episodes[:-1]).manifest.dataset_id,
        make(tmp_path, episodes, [*CORPUS[:-1]]).manifest.dataset_id,
    }
    assert len(ids) == 5


def test_rows_and_counts_are_what_the_manifest_says(tmp_path: Path) -> None:
    frozen = make(tmp_path, feedback_log(900))
    dataset = Dataset(tmp_path / frozen.manifest.dataset_id)
    train, validation, judge = dataset.train(), dataset.validation(), dataset.judge()
    assert frozen.manifest.questions == {
        "train": len(train),
        "validation": len(validation),
        "judge": len(judge),
    }
    assert frozen.manifest.pairs["judge"] == sum(len(row.labels) for row in judge)
    assert dataset.counts == frozen.counts
    assert dataset.documents() == sorted(CORPUS, key=lambda current: current.document_id)
    assert len({row.group for row in train} | {row.group for row in judge}) == len(
        {row.group for row in train}
    ) + len({row.group for row in judge})
    for row in train:
        assert row.positives
        assert all(0 < weight <= 1 for weight in row.positives.values())


def test_no_train_question_is_near_a_judge_question(tmp_path: Path) -> None:
    near = FreezeSettings(group_cosine=0.8)
    frozen = make(tmp_path, feedback_log(900), settings=near)
    dataset = Dataset(tmp_path / frozen.manifest.dataset_id)
    train = encode([row.text for row in dataset.train()])
    judge = encode([row.text for row in dataset.judge()])
    assert (train @ judge.T).max() < 0.8 + 1e-6
    assert frozen.manifest.dropped["question_near_judge"] > 0


def test_nothing_of_a_judge_question_reaches_training(tmp_path: Path) -> None:
    episodes = feedback_log(600)
    before = make(tmp_path, episodes)
    dataset = Dataset(tmp_path / before.manifest.dataset_id)
    kept_from_training = {row.text for row in (*dataset.judge(), *dataset.validation())}
    silent = [
        msgspec.structs.replace(each, pairs=()) if each.text in kept_from_training else each
        for each in episodes
    ]
    after = make(tmp_path, silent)
    assert after.manifest.files["train.jsonl"] == before.manifest.files["train.jsonl"]
    assert after.manifest.files["judge.jsonl"] != before.manifest.files["judge.jsonl"]


def test_evidence_that_is_lost_is_counted(tmp_path: Path) -> None:
    episodes = [
        *feedback_log(100),
        episode(2_000, "topic 1 late", shown=["gone"], pairs=[pair("gone")]),
        episode(2_001, "topic 2 waiting", asked=False, pairs=[pair("d1-1")]),
    ]
    dropped = make(tmp_path, episodes).manifest.dropped
    assert (dropped["document_gone"], dropped["no_query"]) == (1, 1)


def test_a_damaged_dataset_is_refused(tmp_path: Path) -> None:
    directory = tmp_path / make(tmp_path, feedback_log(100)).manifest.dataset_id
    with (directory / "train.jsonl").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(Fatal, match=r"train\.jsonl: expected SHA-256"):
        Dataset(directory)


def test_an_empty_log_is_too_little(tmp_path: Path) -> None:
    frozen = make(tmp_path, [])
    assert frozen.counts == FeedbackCounts(
        train_questions=0, validation_groups=0, judge_groups=0, train_agreement=0.0, judge_agreement=0.0
    )
    assert "train questions with a likely relevant document: 0 of 200 (200 more needed)" in too_little(
        frozen.counts, SETTINGS
    )


def test_shuffled_feedback_is_too_little_however_much_there_is(tmp_path: Path) -> None:
    good = make(tmp_path, feedback_log(1_200)).counts
    bad = make(tmp_path, feedback_log(1_200, shuffled=True)).counts
    assert too_little(good, SETTINGS) == ""
    assert all(need.met for need in readiness(good, SETTINGS))
    assert bad.train_questions >= SETTINGS.minimum_train_questions
    unmet = [need.what for need in readiness(bad, SETTINGS) if not need.met]
    assert any("agreement" in what for what in unmet)


def test_shares_must_leave_a_judge() -> None:
    with pytest.raises(ValueError, match="leave no group for the judge"):
        _ = FreezeSettings(train_share=0.8, validation_share=0.2).shares


def test_an_encoder_that_loses_texts_is_an_error(tmp_path: Path) -> None:
    def lossy(texts: object) -> Vectors:
        return np.zeros((1, 4), np.float32)

    with pytest.raises(ValueError, match="gave 1 vectors for"):
        freeze(
            feedback_log(20),
            CORPUS,
            tenant="t",
            offsets={},
            encode=lossy,
            settings=SETTINGS,
            root=tmp_path,
        )
