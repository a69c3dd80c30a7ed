"""The betting process: against a plain loop, what it refuses, and how fast it catches a rise."""

import math

import msgspec
import numpy as np
import pytest
from scipy import stats

from learners.statistics.betting import ODDS_RATIOS, WAKING_ROUNDS, BettingProcess, start_betting
from learners.statistics.findings import CannotSay
from learners.statistics.spending import spend, spend_evenly


def play_slowly(null_rate: float, bits: list[int]) -> float:
    """Wealth after the bits, one round at a time, in plain numbers."""
    odds = [ratio * null_rate / (1 - null_rate) for ratio in ODDS_RATIOS]
    rises = [o / (1 + o) for o in odds]
    awake, asleep = [0.5 / len(rises) for _ in rises], 0.5
    for played, bit in enumerate(bits, start=1):
        still = 0.5 * WAKING_ROUNDS / (WAKING_ROUNDS + played)
        woken, asleep = asleep - still, still
        for k, rise in enumerate(rises):
            factor = rise / null_rate if bit else (1 - rise) / (1 - null_rate)
            awake[k] = (awake[k] + woken / len(rises)) * factor
    return sum(awake) + asleep


def test_the_fast_path_equals_the_plain_loop() -> None:
    bits = (np.random.default_rng(5).random(300) < 0.3).astype(int)
    process = BettingProcess(null_rate=0.2, alpha=0.05).update(bits)
    assert process.log_e_value == pytest.approx(math.log(play_slowly(0.2, bits.tolist())), rel=1e-9)


def test_wealth_is_fair_at_the_null_rate() -> None:
    process = BettingProcess(null_rate=0.3, alpha=0.05).update([1, 0, 0, 1])
    after_one, after_zero = (math.exp(process.update([bit]).log_e_value) for bit in (1, 0))
    assert 0.3 * after_one + 0.7 * after_zero == pytest.approx(math.exp(process.log_e_value))
    assert BettingProcess(null_rate=0.3, alpha=0.05).log_e_value == pytest.approx(0.0, abs=1e-12)


def test_an_alarm_names_its_round_and_stays() -> None:
    alarmed = BettingProcess(null_rate=0.05, alpha=0.05).update([1] * 10)
    assert alarmed.alarmed
    assert alarmed.alarmed_at is not None
    before = BettingProcess(null_rate=0.05, alpha=0.05).update([1] * (alarmed.alarmed_at - 1))
    assert not before.alarmed
    assert before.log_e_value < -math.log(0.05)
    later = alarmed.update([0] * 2000)
    assert later.alarmed_at == alarmed.alarmed_at
    assert later.log_e_value < 0


def test_the_state_survives_json() -> None:
    process = BettingProcess(null_rate=0.1, alpha=0.05).update([0, 1, 0])
    again = msgspec.json.decode(msgspec.json.encode(process), type=BettingProcess)
    assert again == process
    assert again.update([1, 1]) == process.update([1, 1])


def test_the_null_rate_is_the_references_upper_bound() -> None:
    process = start_betting(50, 1000, alpha=0.05)
    assert isinstance(process, BettingProcess)
    # One-sided 97.5 % is the upper end of the two-sided 95 %.
    assert process.null_rate == pytest.approx(stats.binomtest(50, 1000).proportion_ci(0.95).high)
    assert process.alpha == pytest.approx(0.025)


def test_it_says_why_it_cannot_start() -> None:
    few, ceiling = start_betting(1, 20, alpha=0.05), start_betting(100, 100, alpha=0.05)
    assert isinstance(few, CannotSay)
    assert (few.reason, few.needed) == ("too_few_events", 50)
    assert isinstance(ceiling, CannotSay)
    assert ceiling.reason == "rate_at_ceiling"
    assert isinstance(start_betting(0, 100, alpha=0.05), BettingProcess)


def test_wrong_bits_and_settings_are_errors() -> None:
    with pytest.raises(ValueError, match="0 and 1"):
        BettingProcess(null_rate=0.1, alpha=0.05).update([0.5])
    with pytest.raises(ValueError, match="null_rate"):
        BettingProcess(null_rate=1.0, alpha=0.05)
    with pytest.raises(ValueError, match="hits"):
        start_betting(5, 4, alpha=0.05)


@pytest.mark.parametrize("quiet_rounds", [0, 500, 4000])
def test_a_rise_is_caught_soon_even_after_a_long_quiet(quiet_rounds: int) -> None:
    rng = np.random.default_rng(11)
    delays = []
    for _ in range(60):
        process = start_betting(int(rng.binomial(1000, 0.05)), 1000, alpha=0.05)
        assert isinstance(process, BettingProcess)
        process = process.update(rng.random(quiet_rounds) < 0.05).update(rng.random(600) < 0.3)
        assert process.alarmed_at is not None
        delays.append(process.alarmed_at - quiet_rounds)
    assert np.median(delays) < (30 if quiet_rounds == 0 else 60)


def test_spent_parts_sum_to_alpha() -> None:
    assert sum(spend(0.05, k) for k in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)
    assert sum(spend(0.05, k) for k in range(1, 1000)) < 0.05
    assert sum(spend_evenly(0.05, k, tests=20) for k in range(1, 21)) == pytest.approx(0.05)


def test_alpha_cannot_be_spent_twice() -> None:
    with pytest.raises(ValueError, match="test 21 needs a new plan"):
        spend_evenly(0.05, 21, tests=20)
    with pytest.raises(ValueError, match="counted from 1"):
        spend(0.05, 0)
