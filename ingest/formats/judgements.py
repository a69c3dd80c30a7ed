"""From another tool's score to a kind of ours: what is a thumb, what a relevance label, what only a score.

Others have scores that are true or false, and do not say whose they are: `user-feedback` and `hallucination`
look alike. A thumb counts for a version's quality, so it is one only by name. What is true or false under any
other name is a score of 1 or 0: kept, named, and of no effect on quality.
"""

from __future__ import annotations

import re
from typing import Final

from msgspec import Struct

from schemas.interactions import FeedbackKind

#: Names (lower case, words joined by `-`) of what a person says by one click.
THUMB_NAMES: Final = frozenset(
    {
        "feedback",
        "helpful",
        "like",
        "thumb",
        "thumbs",
        "thumbs-up",
        "user-feedback",
        "user-rating",
        "user-satisfaction",
        "was-this-helpful",
    }
)
_UP: Final = frozenset({"thumbs-up", "thumb-up", "up", "like", "👍", "positive", "helpful"})
_DOWN: Final = frozenset({"thumbs-down", "thumb-down", "down", "dislike", "👎", "negative", "unhelpful"})
_RELEVANT: Final = frozenset({"relevant", "relevance", "document-relevance"})
_IRRELEVANT: Final = frozenset({"irrelevant", "not-relevant", "unrelated", "unrelevant"})
_BETWEEN: Final = re.compile(r"[\s_]+")


class Judgement(Struct, frozen=True):
    """Kind and value of feedback."""

    kind: FeedbackKind
    value: float


def plain_name(name: str) -> str:
    """Lower case, words joined by `-`: `Thumbs_up` → thumbs-up."""
    return _BETWEEN.sub("-", name.strip().lower())


def judge_boolean(name: str, holds: bool) -> Judgement:
    """What is true or false: a thumb if its name says so, else a score of 1 or 0."""
    plain = plain_name(name)
    if plain in THUMB_NAMES:
        return Judgement("thumb", 1.0 if holds else -1.0)
    if plain == "thumbs-down":
        return Judgement("thumb", -1.0 if holds else 1.0)
    return Judgement("score", float(holds))


def judge_result(name: str, label: str | None, score: float | None) -> Judgement | None:
    """A label and a score, either of which may be absent; None if neither says more than words do.

    A thumb: a label such as `thumbs-up` or `👎` under a name of `THUMB_NAMES`, or 1, 0 or -1 under one.
    """
    plain = plain_name(label or "")
    if plain_name(name) in THUMB_NAMES or plain_name(name) == "thumbs-down":
        if plain in _UP or plain in _DOWN:
            return Judgement("thumb", 1.0 if plain in _UP else -1.0)
        if score in (0, 1, -1):
            return judge_boolean(name, score == 1)
    return None if score is None else Judgement("score", score)


def judge_relevance(name: str, label: str | None, score: float | None) -> Judgement | None:
    """Of a document: a relevance label where words, or a 1 or 0 so named, say so; else as of any result."""
    plain = plain_name(label or "")
    if plain in _RELEVANT or plain in _IRRELEVANT:
        return Judgement("label", float(plain in _RELEVANT))
    if plain_name(name) in _RELEVANT and score in (0, 1):
        return Judgement("label", float(score == 1))
    return judge_result(name, label, score)
