"""Did the arms get the shares of units that they should? If not, no comparison of them can be trusted."""

import math
from collections.abc import Mapping

import msgspec

from learners.statistics.distributions import chi_square_above, log_gamma
from learners.statistics.findings import CannotSay, check_alpha

#: Chi-square's approximation wants this many expected units in every arm.
MINIMUM_EXPECTED = 5.0

#: Weight of the shares in the Dirichlet of the always-valid test; 1 per arm on average, as for a flat one.
PRIOR_UNITS_PER_ARM = 1.0


class SampleRatio(msgspec.Struct, frozen=True, kw_only=True, tag="sample_ratio", tag_field="says"):
    """Counts of units against the shares that were assigned."""

    mismatch: bool
    """`always_valid_p_value <= alpha`: right however often one looks."""
    alpha: float
    counts: dict[str, int]
    expected: dict[str, float]
    """Units per arm that the shares predict for this total."""
    p_value: float
    """Pearson's chi-square; fixed horizon, for one planned look."""
    always_valid_p_value: float


def check_sample_ratio(
    counts: Mapping[str, int], shares: Mapping[str, float], *, alpha: float = 0.001
) -> SampleRatio | CannotSay:
    """Compare units per arm with the arms' shares (any positive weights; constant while the units came).

    Decides by the Dirichlet-multinomial Bayes factor, a martingale under the right shares (Lindon & Malek
    2022, "Anytime-valid inference for multinomial count data"), and shows chi-square beside it.
    An arm in `shares` without units counts as 0. Raises ValueError for units in an arm that has no share.
    """
    check_alpha(alpha)
    strangers = sorted(set(counts) - set(shares))
    if strangers or len(shares) < 2 or min(shares.values()) <= 0 or any(n < 0 for n in counts.values()):
        raise ValueError(
            f"expected counts >= 0 for two or more arms of positive share, got {counts} for {shares}"
        )
    units = {arm: counts.get(arm, 0) for arm in shares}
    total, weight = sum(units.values()), sum(shares.values())
    probability = {arm: share / weight for arm, share in shares.items()}
    needed = math.ceil(MINIMUM_EXPECTED / min(probability.values()))
    if total < needed:
        return CannotSay(
            "too_few_units",
            f"the smallest share wants {needed} units altogether, got {total}",
            n=total,
            needed=needed,
        )
    expected = {arm: total * p for arm, p in probability.items()}
    chi_square = sum((units[arm] - expected[arm]) ** 2 / expected[arm] for arm in units)
    return SampleRatio(
        mismatch=(always := _always_valid_p_value(units, probability)) <= alpha,
        alpha=alpha,
        counts=units,
        expected=expected,
        p_value=chi_square_above(chi_square, len(units) - 1.0),
        always_valid_p_value=always,
    )


def _always_valid_p_value(units: Mapping[str, int], probability: Mapping[str, float]) -> float:
    """min(1, 1/e), e = E[prod q_i^n_i] / prod p_i^n_i with q ~ Dirichlet(k p), k from PRIOR_UNITS_PER_ARM."""
    prior = PRIOR_UNITS_PER_ARM * len(units)
    log_e = log_gamma(prior) - log_gamma(prior + sum(units.values()))
    for arm, n in units.items():
        own = prior * probability[arm]
        log_e += log_gamma(own + n) - log_gamma(own) - n * math.log(probability[arm])
    return math.exp(-max(0.0, log_e))
