"""Rows are a set: any order of them gives exactly the same arms."""

import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from learners.statistics.experiment import gather_units

Row = tuple[str, str, float]
ROWS = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from(["", "red", "blue"]), st.floats(-1e3, 1e3)),
    max_size=40,
)


@given(rows=ROWS, shuffle=st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[Row], shuffle: random.Random) -> None:
    shuffled = shuffle.sample(rows, len(rows))
    one, other = (
        gather_units([r[0] for r in some], [r[1] for r in some], [r[2] for r in some])
        for some in (rows, shuffled)
    )
    assert one.arms.keys() == other.arms.keys()
    for arm, units in one.arms.items():
        assert np.array_equal(units.sums, other.arms[arm].sums)
        assert np.array_equal(units.rows, other.arms[arm].rows)


@given(rows=ROWS)
def test_every_exposed_unit_is_in_one_arm_or_excluded(rows: list[Row]) -> None:
    gathered = gather_units([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
    seen: dict[str, set[str]] = {}
    for unit, arm, _ in rows:
        if arm:
            seen.setdefault(unit, set()).add(arm)
    assert gathered.excluded_units == sum(len(arms) > 1 for arms in seen.values())
    assert {arm: units.sums.size for arm, units in gathered.arms.items()} == {
        arm: sum(arms == {arm} for arms in seen.values()) for arm in set().union(*seen.values())
    }
    assert gathered.unexposed_rows == sum(not arm for _, arm, _ in rows)
