"""Simulated customers: what they look at, click, and say. All that stands for people is in this file."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct

from infra.demo.dataset import Question

#: Hits that a customer may look at; the one at rank r with a chance of 1 / r.
EXAMINED: Final = 10
CLICK_RELEVANT: Final = 0.9
CLICK_IRRELEVANT: Final = 0.1
#: Share of clicks that are followed by a thumb: up if the document helped.
THUMB: Final = 0.1

#: Lists that the shuffled control draws from.
_REMEMBERED: Final = 200

Control = Literal["none", "shuffled", "nodrift"]


class Reaction(Struct, frozen=True):
    """A click on the hit at this rank, and the thumb that follows it, if any: True is up."""

    rank: int
    thumb: bool | None = None


def react(relevant: Sequence[bool], rng: random.Random) -> list[Reaction]:
    """What a customer does with a list; `relevant`: whether each hit answers the question, top first."""
    reactions = []
    for rank, helps in enumerate(relevant[:EXAMINED], start=1):
        if rng.random() >= 1 / rank:
            continue
        if rng.random() >= (CLICK_RELEVANT if helps else CLICK_IRRELEVANT):
            continue
        reactions.append(Reaction(rank, helps if rng.random() < THUMB else None))
    return reactions


class Customers:
    """Reactions to lists. With control `shuffled` they react as if to the list of another question.

    Then clicks still fall where clicks fall, but say nothing about the documents under them.
    """

    def __init__(self, control: Control) -> None:
        self._shuffled = control == "shuffled"
        self._others: deque[list[bool]] = deque(maxlen=_REMEMBERED)

    def react(self, relevant: Sequence[bool], rng: random.Random) -> list[Reaction]:
        """What the customer does; `rng` is this query's own."""
        if not self._shuffled:
            return react(relevant, rng)
        other = rng.choice(self._others) if self._others else []
        self._others.append(list(relevant))
        return react(other[: len(relevant)], rng)


class Ask(Struct, frozen=True):
    """A question that a customer is about to ask. `number` counts within its phase."""

    number: int
    phase: str
    user: str
    question: Question
    #: This text was asked before in this phase.
    repeat: bool


def visits(
    phase: str, questions: Sequence[Question], questions_each: int, rng: random.Random
) -> Iterator[Ask]:
    """Customers without end, each with a few questions; when all were asked, they are asked again, marked."""
    number = 0
    user = ""
    order = list(questions)
    while True:
        repeat = number >= len(questions)
        for question in order:
            if number % questions_each == 0:
                user = f"u-{rng.randrange(16**10):010x}"
            yield Ask(number, phase, user, question, repeat)
            number += 1
        rng.shuffle(order)
