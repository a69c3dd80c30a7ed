"""Did a rate rise above its reference? A bet against "no", whose wealth is the evidence.

Each bit (a search with a low top score, a query without a click, a thumb down) is a round. If the rate is
still at most the reference, nobody gets rich: wealth reaches 1/alpha with probability alpha, however long
and however often one looks (Ville's inequality). The design is a test by betting (Waudby-Smith & Ramdas
2024, "Estimating means of bounded random variables by betting") against several alternatives at once, with
part of the wealth asleep: it wakes a little at each round, so that a rise after thousands of quiet rounds
is caught as fast as an early one (a mixture over the time of the change, as in Shin, Ramdas & Rinaldo 2023,
"E-detectors").
"""

import math
from typing import Self

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from learners.statistics.distributions import beta_quantile
from learners.statistics.findings import CannotSay, check_alpha

#: Odds ratios of the rises that are bet on; wealth starts in equal parts.
ODDS_RATIOS = (1.25, 1.5, 2.0, 3.0, 5.0, 10.0)

#: The sleeping half of the wealth is half awake after this many rounds.
WAKING_ROUNDS = 500

MINIMUM_REFERENCE = 50


class BettingProcess(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one bet: frozen, JSON-able, constant in size. `update` returns the next state.

    Guarantees: P(`alarmed_at` is ever set) <= alpha if each bit is 1 with probability <= null_rate given
    those before. The state after a stream does not depend on how the stream was cut into updates (up to
    rounding).
    """

    null_rate: float
    """The highest rate that counts as "no rise", in (0, 1)."""
    alpha: float
    log_awake: tuple[float, ...] = tuple(math.log(0.5 / len(ODDS_RATIOS)) for _ in ODDS_RATIOS)
    """Log of the wealth that bets on each of ODDS_RATIOS."""
    rounds: int = 0
    alarmed_at: int | None = None
    """The round at which the wealth first reached 1/alpha."""

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if not 0 < self.null_rate < 1:
            raise ValueError(f"null_rate must lie in (0, 1), got {self.null_rate}")

    @property
    def log_e_value(self) -> float:
        """Log of the present wealth; it began at 0."""
        return float(np.logaddexp.reduce([*self.log_awake, _log_asleep(self.rounds)]))

    @property
    def alarmed(self) -> bool:
        return self.alarmed_at is not None

    def update(self, bits: ArrayLike) -> Self:
        """The state after these rounds, in order.

        bits: (rounds,) of 0 and 1 or booleans; raises ValueError for others.
        An alarm stays; start a new process to watch on.
        """
        values = np.asarray(bits)
        if values.size == 0:
            return self
        if values.ndim != 1 or not np.isin(values, (0, 1)).all():
            raise ValueError("bits must be a flat sequence of 0 and 1")
        awake, log_wealth = self._play(values.astype(bool))
        crossed = np.flatnonzero(log_wealth >= -math.log(self.alpha))
        first = self.rounds + int(crossed[0]) + 1 if crossed.size else None
        return msgspec.structs.replace(
            self,
            log_awake=tuple(float(part) for part in awake),
            rounds=self.rounds + values.size,
            alarmed_at=self.alarmed_at if self.alarmed else first,
        )

    def _play(self, bits: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(alternatives,) log wealth awake at the end; (rounds,) log of the whole wealth after each round.

        Round t: awake = (awake + woken[t] / alternatives) * likelihood_ratio(bit[t]), per alternative.
        Solved for all rounds at once in logarithms, c[t] being the running sum of log likelihood ratios:
        awake[t] = exp(c[t]) * (awake[0] + sum over s <= t of woken[s] / alternatives * exp(-c[s - 1])).
        """
        gains, losses = _log_likelihood_ratios(self.null_rate)
        running = np.cumsum(np.where(bits, gains[:, None], losses[:, None]), axis=1)  # (alternatives, rounds)
        before = np.concatenate([np.zeros((len(ODDS_RATIOS), 1)), running[:, :-1]], axis=1)
        rounds = np.arange(self.rounds, self.rounds + bits.size, dtype=np.float64)
        woken = _log_woken(rounds) - math.log(len(ODDS_RATIOS))
        stakes = np.concatenate([np.array(self.log_awake)[:, None], woken - before], axis=1)
        awake = running + np.logaddexp.accumulate(stakes, axis=1)[:, 1:]
        asleep = math.log(0.5 * WAKING_ROUNDS) - np.log(WAKING_ROUNDS + rounds + 1.0)
        wealth: NDArray[np.float64] = np.logaddexp(np.logaddexp.reduce(awake, axis=0), asleep)
        return awake[:, -1], wealth


def start_betting(
    reference_hits: int,
    reference_rounds: int,
    *,
    alpha: float,
    reference_share: float = 0.5,
    minimum_reference: int = MINIMUM_REFERENCE,
) -> BettingProcess | CannotSay:
    """A process whose null is a reference rate that is itself known from some rounds only.

    `reference_share` of alpha pays for the reference: the null rate is its Clopper-Pearson upper bound at
    that level (1934; the exact one: quantile 1 - a of Beta(hits + 1, rounds - hits)). The rest is the
    alarm's. So the chance of a false alarm over reference *and* stream is at most alpha, in exchange for
    rises that are smaller than the reference's own uncertainty.
    """
    check_alpha(alpha)
    if not 0 < reference_share < 1:
        raise ValueError(f"reference_share must lie in (0, 1), got {reference_share}")
    if not 0 <= reference_hits <= reference_rounds:
        raise ValueError(f"hits must lie between 0 and {reference_rounds} rounds, got {reference_hits}")
    if reference_rounds < minimum_reference:
        return CannotSay(
            "too_few_events",
            f"a reference rate needs {minimum_reference} rounds, got {reference_rounds}",
            n=reference_rounds,
            needed=minimum_reference,
        )
    if reference_hits == reference_rounds:
        return CannotSay("rate_at_ceiling", "the reference rate is 1; it cannot rise", n=reference_rounds)
    bound = beta_quantile(
        1.0 - alpha * reference_share, reference_hits + 1.0, float(reference_rounds - reference_hits)
    )
    return BettingProcess(null_rate=bound, alpha=alpha * (1.0 - reference_share))


def _log_likelihood_ratios(null_rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(alternatives,) each: log of what a bet is worth after a 1, and after a 0; fair at the null rate."""
    odds = np.array(ODDS_RATIOS) * null_rate / (1.0 - null_rate)
    alternative = odds / (1.0 + odds)
    return np.log(alternative / null_rate), np.log((1.0 - alternative) / (1.0 - null_rate))


def _log_asleep(rounds: int) -> float:
    """Log of the wealth that has not yet woken after `rounds`: 1/2 * W / (W + rounds)."""
    return math.log(0.5 * WAKING_ROUNDS / (WAKING_ROUNDS + rounds))


def _log_woken(rounds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log of the wealth that wakes between `rounds` and the next: the fall of the sleeping wealth."""
    woken: NDArray[np.float64] = math.log(0.5 * WAKING_ROUNDS) - np.log(
        (WAKING_ROUNDS + rounds) * (WAKING_ROUNDS + rounds + 1.0)
    )
    return woken
