"""A stream gives one result however it is cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from learners.statistics.betting import BettingProcess


@given(
    bits=st.lists(st.integers(0, 1), max_size=200),
    batch=st.integers(1, 60),
    null_rate=st.floats(0.01, 0.9),
)
def test_any_batch_cut_gives_the_same_state(bits: list[int], batch: int, null_rate: float) -> None:
    start = BettingProcess(null_rate=null_rate, alpha=0.05)
    whole, cut = start.update(bits), start
    for first in range(0, len(bits), batch):
        cut = cut.update(bits[first : first + batch])
    assert (cut.rounds, cut.alarmed_at) == (whole.rounds, whole.alarmed_at)
    assert cut.log_awake == pytest.approx(whole.log_awake, rel=1e-9, abs=1e-9)


@given(bits=st.lists(st.integers(0, 1), max_size=100), null_rate=st.floats(0.01, 0.9))
def test_a_one_more_is_never_less_evidence(bits: list[int], null_rate: float) -> None:
    process = BettingProcess(null_rate=null_rate, alpha=0.05).update(bits)
    assert process.update([1]).log_e_value >= process.log_e_value >= process.update([0]).log_e_value
