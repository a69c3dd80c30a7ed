"""From episodes to questions: what was shown for a text and what was done with it, as far as it still holds.

A question is a distinct text; it may have been asked many times. Evidence about a document that is gone, or
that had another text when it was shown, does not hold any more: it is dropped and counted.
"""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from learners.ports import CurrentDocument
from schemas.episodes import Episode, TrainingPair

#: Kinds of pairs that are a person's or a machine's word about the document; the others are behaviour.
JUDGEMENTS: Final = frozenset({"label", "thumb", "stars"})
#: Ranks beyond this one are not looked at: their evidence is nearly nothing.
DEEPEST_RANK: Final = 50


@dataclass(frozen=True, slots=True)
class Look:
    """A document at a rank of a list that was shown; `used` in [0, 1]: how sure it is that it was of use."""

    document_id: str
    rank: int
    used: float


@dataclass(frozen=True, slots=True)
class Judgement:
    """What somebody said about a document for this question: label 0 or 1, weight in (0, 1]."""

    document_id: str
    label: int
    weight: float


@dataclass(slots=True)
class Question:
    """A distinct text and all evidence under it; `id` is a hash of the text."""

    id: str
    text: str
    first_received_at: dt.datetime
    queries: int = 0
    looks: list[Look] = field(default_factory=list)
    judgements: list[Judgement] = field(default_factory=list)

    @property
    def order(self) -> tuple[dt.datetime, str]:
        """First received time, then the hash."""
        return (self.first_received_at, self.id)


def question_id(text: str) -> str:
    """SHA-256 (hex) of the text."""
    return hashlib.sha256(text.encode()).hexdigest()


def gather_questions(
    episodes: Iterable[Episode], documents: Mapping[str, CurrentDocument]
) -> tuple[list[Question], Counter[str], int]:
    """Questions in the order of (received time of their first query, id), dropped pairs by reason, and the
    number of pairs that were kept.

    Reasons: `no_query` (the query has not come), `empty_text`, `document_gone`, `text_changed`. Lists without
    any usable hit and queries without a list still make a question: its group must not depend on its
    feedback.
    """
    questions: dict[str, Question] = {}
    dropped: Counter[str] = Counter()
    kept = 0
    for episode in episodes:
        text = episode.text.strip()
        # Not when its first record came: feedback may come days before its query, and would put the query
        # before questions that an earlier dataset has given to a split already.
        asked = episode.query_received_at
        if asked is None or not text:
            reason = "no_query" if asked is None else "empty_text"
            dropped.update({reason: len(episode.pairs)} if episode.pairs else {})
            continue
        key = question_id(text)
        question = questions.get(key)
        if question is None:
            question = questions[key] = Question(key, text, asked)
        question.first_received_at = min(question.first_received_at, asked)
        question.queries += 1
        holding: list[TrainingPair] = []
        for pair in episode.pairs:
            lost = _lost(pair.document_id, pair.text_hash, documents)
            if lost:
                dropped[lost] += 1
            else:
                holding.append(pair)
        kept += len(holding)
        question.looks += _looks(episode, holding, documents)
        question.judgements += _judgements(holding)
    return sorted(questions.values(), key=lambda q: q.order), dropped, kept


def _lost(document_id: str, text_hash: str | None, documents: Mapping[str, CurrentDocument]) -> str:
    """Why evidence about this document and text does not hold any more; '' if it does."""
    document = documents.get(document_id)
    if document is None:
        return "document_gone"
    return "text_changed" if text_hash is not None and text_hash != document.text_hash else ""


def _looks(
    episode: Episode, pairs: Sequence[TrainingPair], documents: Mapping[str, CurrentDocument]
) -> list[Look]:
    """What was shown, and whether it was of use: 1 for a click, copy or read that was no bounce."""
    used: dict[tuple[str, str], float] = {}
    bounced: set[tuple[str, str]] = set()
    for pair in pairs:
        key = (pair.retrieval_id, pair.document_id)
        if pair.kind in ("click", "copy", "dwell"):
            used[key] = 1.0
        elif pair.kind == "citation":
            used[key] = max(used.get(key, 0.0), pair.weight)
        elif pair.kind == "bounce":
            bounced.add(key)
    looks = []
    for retrieval in episode.retrievals:
        if retrieval.shadow:
            continue
        for hit in retrieval.hits:
            if hit.rank > DEEPEST_RANK or _lost(hit.document_id, hit.text_hash, documents):
                continue
            key = (retrieval.retrieval_id, hit.document_id)
            looks.append(Look(hit.document_id, hit.rank, 0.0 if key in bounced else used.get(key, 0.0)))
    return looks


def _judgements(pairs: Sequence[TrainingPair]) -> list[Judgement]:
    """One a document and label: the heaviest word counts, and two lists that show it do not double it."""
    heaviest: dict[tuple[str, int], float] = {}
    for pair in pairs:
        if pair.kind in JUDGEMENTS:
            key = (pair.document_id, pair.label)
            heaviest[key] = max(heaviest.get(key, 0.0), pair.weight)
    return [Judgement(document, label, weight) for (document, label), weight in sorted(heaviest.items())]
