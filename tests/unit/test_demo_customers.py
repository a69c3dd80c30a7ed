"""Simulated customers do what is said of them, and the shuffled control says nothing about documents."""

from __future__ import annotations

import itertools
import random

import pytest

from infra.demo.customers import Customers, Reaction, react, visits
from infra.demo.dataset import Question

_LISTS = 20_000
#: Five standard errors of a share in so many lists.
_TOLERANCE = 5 * 0.5 / _LISTS**0.5


def _click_rates(relevant: list[bool]) -> list[float]:
    rng = random.Random(1)
    clicks = [0] * len(relevant)
    for _ in range(_LISTS):
        for reaction in react(relevant, rng):
            clicks[reaction.rank - 1] += 1
    return [count / _LISTS for count in clicks]


def test_the_chance_of_a_click_is_examination_times_relevance() -> None:
    relevant = [rank % 2 == 0 for rank in range(1, 11)]
    for rank, rate in enumerate(_click_rates(relevant), start=1):
        assert rate == pytest.approx((0.9 if relevant[rank - 1] else 0.1) / rank, abs=_TOLERANCE)


def test_nobody_looks_below_rank_ten() -> None:
    rates = _click_rates([True] * 15)
    assert min(rates[:10]) > 0
    assert max(rates[10:]) == 0


def test_a_tenth_of_clicks_gets_a_thumb_that_tells_the_truth() -> None:
    rng = random.Random(2)
    relevant = [True, False, True]
    reactions = [reaction for _ in range(_LISTS) for reaction in react(relevant, rng)]
    thumbs = [reaction for reaction in reactions if reaction.thumb is not None]
    assert len(thumbs) / len(reactions) == pytest.approx(0.1, abs=_TOLERANCE)
    assert all(reaction.thumb is relevant[reaction.rank - 1] for reaction in thumbs)


def test_shuffled_clicks_fall_where_clicks_fall_and_say_nothing() -> None:
    customers = Customers("shuffled")
    rng = random.Random(3)
    shown = {True: 0, False: 0}
    clicked = {True: 0, False: 0}
    for _ in range(_LISTS):
        first_helps = rng.random() < 0.5
        shown[first_helps] += 1
        reactions = customers.react([first_helps, not first_helps], rng)
        clicked[first_helps] += any(reaction.rank == 1 for reaction in reactions)
    rates = {helps: clicked[helps] / shown[helps] for helps in shown}
    # Half of the lists that are borrowed from have a good document on top.
    assert rates[True] == pytest.approx(0.5, abs=2 * _TOLERANCE)
    assert rates[False] == pytest.approx(0.5, abs=2 * _TOLERANCE)


def test_shuffled_reactions_stay_within_the_list() -> None:
    customers = Customers("shuffled")
    rng = random.Random(4)
    for _ in range(100):
        customers.react([True] * 10, rng)
        assert all(reaction.rank <= 2 for reaction in customers.react([False, False], rng))


def test_without_control_customers_react_to_their_own_list() -> None:
    assert Customers("none").react([True], random.Random(5)) in (
        [],
        [Reaction(1)],
        [Reaction(1, True)],
    )
    assert Customers("nodrift").react([True] * 10, random.Random(6)) == react([True] * 10, random.Random(6))


def test_customers_ask_a_few_questions_each_and_repeats_are_marked() -> None:
    questions = [Question(f"q-{n}", f"text {n}", "topic", "train") for n in range(7)]
    asks = list(itertools.islice(visits("moved", questions, 3, random.Random(7)), 20))
    assert [ask.number for ask in asks] == list(range(20))
    assert [ask.repeat for ask in asks] == [False] * 7 + [True] * 13
    assert {ask.question.id for ask in asks[:7]} == {question.id for question in questions}
    users = [ask.user for ask in asks]
    assert [len(list(group)) for _, group in itertools.groupby(users)] == [3, 3, 3, 3, 3, 3, 2]
    assert len(set(users)) == 7
