"""The bank's questions and help texts, under ids that say nothing: `banking77_faq` (CC BY 4.0)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

DATA: Final = Path(__file__).parent / "data" / "banking77_faq"


class Question(Struct, frozen=True):
    """A customer's question. `topic` is for the simulator and the report alone."""

    id: str
    text: str
    topic: str
    split: Literal["train", "test"]


class HelpText(Struct, frozen=True):
    """A document of the bank's help pages."""

    id: str
    text: str


class Bank(Struct, frozen=True):
    """Everything that is known, the truth included: which documents answer which question."""

    documents: tuple[HelpText, ...]
    questions: tuple[Question, ...]
    relevant: dict[str, frozenset[str]]

    @property
    def topics(self) -> tuple[str, ...]:
        """All topics, by name."""
        return tuple(sorted({question.topic for question in self.questions}))

    def split(self, name: Literal["train", "test"]) -> list[Question]:
        """The questions of a split, in this bank's order."""
        return [question for question in self.questions if question.split == name]


def load_bank(seed: int, directory: Path = DATA) -> Bank:
    """The data set with ids and an order drawn from `seed`: neither says what a text is about."""
    corpus = list(_jsonl(directory / "corpus.jsonl"))
    queries = list(_jsonl(directory / "queries.jsonl"))
    rng = random.Random(f"{seed}/ids")
    document_ids = _opaque_ids("d", [row["_id"] for row in corpus], rng)
    question_ids = _opaque_ids("q", [row["_id"] for row in queries], rng)
    relevant: dict[str, set[str]] = {}
    for line in (directory / "qrels.tsv").read_text(encoding="utf-8").splitlines()[1:]:
        question, document, gain = line.split("\t")
        if int(gain) > 0:
            relevant.setdefault(question_ids[question], set()).add(document_ids[document])
    # In the order of the drawn ids: the file's order follows the topics.
    documents = sorted((HelpText(document_ids[row["_id"]], row["text"]) for row in corpus), key=_id_of)
    questions = sorted(
        (Question(question_ids[row["_id"]], row["text"], row["group"], row["split"]) for row in queries),
        key=_id_of,
    )
    return Bank(
        documents=tuple(documents),
        questions=tuple(_without_leaks(questions)),
        relevant={name: frozenset(documents) for name, documents in relevant.items()},
    )


def _without_leaks(questions: list[Question]) -> Iterator[Question]:
    """The questions without train texts that are test texts, too: test questions are never traffic."""
    tested = {question.text for question in questions if question.split == "test"}
    return (q for q in questions if q.split == "test" or q.text not in tested)


def _id_of(row: HelpText | Question) -> str:
    return row.id


def _opaque_ids(prefix: str, names: list[str], rng: random.Random) -> dict[str, str]:
    numbers = rng.sample(range(16**8), len(names))
    return {name: f"{prefix}-{number:08x}" for name, number in zip(names, numbers, strict=True)}


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        if line.strip():
            yield msgspec.json.decode(line)
