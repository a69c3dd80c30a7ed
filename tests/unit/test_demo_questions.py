"""The demo's questions: ids that say nothing, test questions that are never traffic, topics apart."""

from __future__ import annotations

import itertools
import json
import random
import re

import pytest

from infra.demo.dataset import DATA, Bank, load_bank
from infra.demo.topics import choose_topics, sample_questions, supply_questions


@pytest.fixture(scope="module")
def bank() -> Bank:
    return load_bank(1)


def _corpus() -> dict[str, str]:
    """Text → topic of each document, from the file's own ids."""
    lines = (DATA / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return {row["text"]: row["_id"].partition("#")[0] for row in rows}


def test_everything_is_there_and_judged_as_in_the_files(bank: Bank) -> None:
    assert (len(bank.documents), len(bank.topics)) == (385, 77)
    assert len(bank.split("test")) == 3080
    topic_of = {document.id: _corpus()[document.text] for document in bank.documents}
    for question in bank.questions:
        relevant = bank.relevant[question.id]
        assert len(relevant) == 5
        assert {topic_of[document] for document in relevant} == {question.topic}


def test_ids_and_their_order_say_nothing_of_topics(bank: Bank) -> None:
    topic_of = _corpus()
    order = [topic_of[document.text] for document in bank.documents]
    assert [document.id for document in bank.documents] == sorted(document.id for document in bank.documents)
    # Of 384 neighbours about 4 share a topic by chance; in the file it is 308.
    assert sum(a == b for a, b in itertools.pairwise(order)) < 20
    ids = [*(document.id for document in bank.documents), *(question.id for question in bank.questions)]
    assert all(re.fullmatch("[dq]-[0-9a-f]{8}", id_) for id_ in ids)


def test_another_seed_gives_other_ids_for_the_same_texts(bank: Bank) -> None:
    other = load_bank(2)
    assert {d.text for d in other.documents} == {d.text for d in bank.documents}
    assert not {d.id for d in other.documents} & {d.id for d in bank.documents}
    assert load_bank(1) == bank


def test_no_train_text_is_a_test_text(bank: Bank) -> None:
    assert not {q.text for q in bank.split("train")} & {q.text for q in bank.split("test")}


def test_the_worst_topics_move_and_some_are_never_seen(bank: Bank) -> None:
    quality = {topic: number / 100 for number, topic in enumerate(bank.topics)}
    topics = choose_topics(quality, 20, 10, random.Random(3))
    assert topics.moved == set(bank.topics[:20])
    assert (len(topics.unseen), len(topics.unmoved)) == (10, 47)
    assert topics.moved | topics.unmoved | topics.unseen == set(bank.topics)
    assert {topics.slice_of(topic) for topic in bank.topics} == {"moved", "unmoved", "unseen"}


def test_traffic_is_of_train_questions_and_the_canary_has_its_own(bank: Bank) -> None:
    quality = {topic: number / 100 for number, topic in enumerate(bank.topics)}
    topics = choose_topics(quality, 20, 10, random.Random(3))
    supply = supply_questions(bank, topics, 0.3, random.Random(4))
    parts = [{question.id for question in part} for part in (supply.moved, supply.canary, supply.unmoved)]
    assert not parts[0] & parts[1]
    assert not parts[0] & parts[2]
    assert {q.split for part in (supply.moved, supply.canary, supply.unmoved) for q in part} == {"train"}
    assert {q.topic for q in (*supply.moved, *supply.canary)} == topics.moved
    assert {q.topic for q in supply.unmoved} == topics.unmoved
    assert len(supply.canary) / len({*parts[0], *parts[1]}) == pytest.approx(0.3, abs=0.01)


def test_probes_are_train_questions_of_every_topic(bank: Bank) -> None:
    probes = sample_questions(bank, "train", 20, random.Random(5))
    assert {question.split for question in probes} == {"train"}
    assert len(probes) == len({question.id for question in probes}) == 77 * 20
