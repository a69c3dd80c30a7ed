"""Which topics the traffic starts with, which it moves to, and which nobody ever asks about."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from infra.demo.dataset import Bank, Question

MOVED, UNMOVED, UNSEEN = "moved", "unmoved", "unseen"


class Topics(Struct, frozen=True):
    """A partition of all topics."""

    #: Served worst by the base, on train questions: where the traffic goes.
    moved: frozenset[str]
    #: Where it starts.
    unmoved: frozenset[str]
    #: In no traffic at all.
    unseen: frozenset[str]

    def slice_of(self, topic: str) -> str:
        """The part that a topic is in."""
        return MOVED if topic in self.moved else UNSEEN if topic in self.unseen else UNMOVED


def sample_questions(
    bank: Bank, split: Literal["train", "test"], per_topic: int, rng: random.Random
) -> list[Question]:
    """So many questions of each topic, or all that it has."""
    questions = bank.split(split)
    sample: list[Question] = []
    for topic in bank.topics:
        own = [question for question in questions if question.topic == topic]
        sample += rng.sample(own, min(per_topic, len(own)))
    return sample


def choose_topics(quality: Mapping[str, float], moved: int, unseen: int, rng: random.Random) -> Topics:
    """The `moved` worst topics by `quality` (topic → nDCG@10), `unseen` drawn from the others, the rest."""
    by_quality = sorted(quality, key=lambda topic: (quality[topic], topic))
    served_well = by_quality[moved:]
    hidden = frozenset(rng.sample(served_well, unseen))
    return Topics(frozenset(by_quality[:moved]), frozenset(served_well) - hidden, hidden)


class Supply(Struct, frozen=True):
    """Train questions by their use; no question is in two of them."""

    unmoved: tuple[Question, ...]
    moved: tuple[Question, ...]
    #: Of moved topics, kept for the canary: the challenger cannot have learned from them.
    canary: tuple[Question, ...]


def supply_questions(bank: Bank, topics: Topics, canary_share: float, rng: random.Random) -> Supply:
    """Shuffled train questions for each kind of traffic; each moved topic gives its share to the canary."""
    train = bank.split("train")
    moved: list[Question] = []
    canary: list[Question] = []
    for topic in sorted(topics.moved):
        own = _shuffled([question for question in train if question.topic == topic], rng)
        kept = round(len(own) * canary_share)
        canary += own[:kept]
        moved += own[kept:]
    unmoved = [question for question in train if question.topic in topics.unmoved]
    return Supply(
        unmoved=tuple(_shuffled(unmoved, rng)),
        moved=tuple(_shuffled(moved, rng)),
        canary=tuple(_shuffled(canary, rng)),
    )


def _shuffled(questions: Sequence[Question], rng: random.Random) -> list[Question]:
    shuffled = list(questions)
    rng.shuffle(shuffled)
    return shuffled
