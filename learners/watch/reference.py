"""What is normal for a champion: its first queries, and the bets that the rates of bad signals stay as they
were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from learners.ports import ObservedQuery
from learners.statistics.betting import BettingProcess, start_betting
from learners.statistics.findings import CannotSay
from learners.watch.columns import COLUMN_NAMES, SIGNAL_NAMES, columns_of, signals_of
from learners.watch.settings import WatchSettings
from schemas.lifecycle import DriftSignal

#: A column that fewer queries of a block than this have is not compared.
MINIMUM_VALUES: Final = 50

#: One bet a signal, in the order of SIGNAL_NAMES; None where the reference says nothing about it.
Bets = tuple[BettingProcess | None, ...]


class Reference(Struct, frozen=True, kw_only=True):
    """The champion's first queries: columns for the two-sample tests, and when a top score is low."""

    queries: int
    columns: dict[str, tuple[float, ...]]
    low_score: float | None


def values_of(queries: Sequence[ObservedQuery]) -> dict[str, tuple[float, ...]]:
    """Finite values by column; columns with fewer than `MINIMUM_VALUES` are left out."""
    rows = [columns_of(query) for query in queries]
    values = {
        name: tuple(value for row in rows if math.isfinite(value := getattr(row, name)))
        for name in COLUMN_NAMES
    }
    return {name: column for name, column in values.items() if len(column) >= MINIMUM_VALUES}


def fix_reference(queries: Sequence[ObservedQuery], settings: WatchSettings) -> tuple[Reference, Bets]:
    """The reference of these queries and a fresh bet for each signal; each gets an equal part of the alpha.

    The low-score threshold is an order statistic of the reference: for any continuous distribution the true
    share below the k-th smallest of n values is Beta(k, n + 1 - k), which is what the bet's Clopper-Pearson
    bound for k - 1 hits of n assumes. So fixing threshold and rate on the same queries costs nothing.
    """
    columns = values_of(queries)
    low_score = None
    if len(scores := columns.get("top_score", ())) == len(queries):
        low_score = sorted(scores)[math.ceil(settings.low_score_quantile * len(scores))]
    signals = [signals_of(query, low_score) for query in queries]
    bets: list[BettingProcess | None] = []
    for index, name in enumerate(SIGNAL_NAMES):
        bet = start_betting(
            sum(row[index] for row in signals),
            len(signals),
            alpha=settings.bet_alpha / len(SIGNAL_NAMES),
            reference_share=settings.reference_share,
        )
        scores_missing = name == "low_top_score" and low_score is None
        bets.append(None if isinstance(bet, CannotSay) or scores_missing else bet)
    return Reference(queries=len(queries), columns=columns, low_score=low_score), tuple(bets)


def place_bets(bets: Bets, reference: Reference, queries: Sequence[ObservedQuery]) -> tuple[Bets, int | None]:
    """The bets after these queries, in order, or up to and including the one at which the first bet alarmed.

    The second value is the number of queries up to that one, None without an alarm. The result does not
    depend on how a stream is cut into calls (up to rounding).
    """
    signals = [signals_of(query, reference.low_score) for query in queries]
    played = _play(bets, signals)
    alarms = [bet.alarmed_at for bet in played if bet is not None and bet.alarmed_at is not None]
    if not alarms:
        return played, None
    started = next(bet.rounds for bet in bets if bet is not None)
    first = min(alarms) - started
    return _play(bets, signals[:first]), first


def _play(bets: Bets, signals: Sequence[tuple[bool, ...]]) -> Bets:
    return tuple(
        None if bet is None else bet.update([row[index] for row in signals]) for index, bet in enumerate(bets)
    )


def bet_signals(bets: Bets) -> tuple[DriftSignal, ...]:
    """The bets as evidence: the e-value against 1 / alpha; `p_value` is 1 / e-value, valid at any time."""
    return tuple(
        DriftSignal(
            column=name,
            method=f"betting e-process, one-sided: rate above {bet.null_rate:.4f}",
            statistic=math.exp(bet.log_e_value),
            threshold=1 / bet.alpha,
            p_value=min(1.0, math.exp(-bet.log_e_value)),
            fired=bet.alarmed,
        )
        for name, bet in zip(SIGNAL_NAMES, bets, strict=True)
        if bet is not None
    )
