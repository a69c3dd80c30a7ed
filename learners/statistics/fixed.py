"""Fixed-horizon comparisons of two arms: right for one look that was planned beforehand, and labelled so.

They stand beside the always-valid interval for readers who know them; they never decide (see `sequential`).
"""

import math
from typing import Literal

from learners.statistics.distributions import (
    chi_square_above,
    normal_quantile,
    student_below,
    student_quantile,
)
from learners.statistics.findings import CannotSay, Interval, check_alpha
from learners.statistics.sequential import control_scale, no_variance, refuse_arms
from learners.statistics.sufficient import ProportionStatistic, Sample

#: Units per arm below which Welch's interval says nothing.
MINIMUM_UNITS = 10


def welch(
    control: Sample,
    treatment: Sample,
    *,
    alpha: float,
    measures: Literal["difference", "relative_difference"] = "difference",
    minimum_units: int = MINIMUM_UNITS,
) -> Interval | CannotSay:
    """Welch's t interval and two-sided test for treatment - control, one look.

    Degrees of freedom by Welch & Satterthwaite: (a + b)^2 / (a^2 / (n_c - 1) + b^2 / (n_t - 1)), where a
    and b are the arms' parts of the variance of the estimate.
    """
    check_alpha(alpha)
    refusal = refuse_arms(control, treatment, max(2, minimum_units))
    if refusal is not None:
        return refusal
    part_control = control.variance / control.n
    part_treatment = treatment.variance / treatment.n
    estimate = treatment.mean - control.mean
    if measures == "relative_difference":
        scale = control_scale(control, control.variance)
        if isinstance(scale, CannotSay):
            return scale
        # Delta method: var((t - c)/c) = var(t)/c^2 + var(c) t^2/c^4.
        part_treatment /= scale**2
        part_control *= treatment.mean**2 / scale**4
        estimate /= scale
    variance = part_control + part_treatment
    if variance <= 0.0:
        return no_variance(control, treatment)
    degrees = variance**2 / (part_control**2 / (control.n - 1) + part_treatment**2 / (treatment.n - 1))
    error = math.sqrt(variance)
    half_width = student_quantile(1.0 - alpha / 2.0, degrees) * error
    return Interval(
        estimate=estimate,
        low=estimate - half_width,
        high=estimate + half_width,
        alpha=alpha,
        horizon="fixed",
        measures=measures,
        method="Welch t",
        n=control.n + treatment.n,
        p_value=2.0 * student_below(-abs(estimate) / error, degrees),
    )


def two_proportions(
    control: ProportionStatistic,
    treatment: ProportionStatistic,
    *,
    alpha: float,
    minimum_units: int = MINIMUM_UNITS,
) -> Interval | CannotSay:
    """Difference of two shares, one look: Newcombe's interval, and the chi-square test without correction.

    Interval and p-value are different constructions and may disagree right at the border.
    """
    check_alpha(alpha)
    refusal = refuse_arms(control, treatment, max(1, minimum_units))
    if refusal is not None:
        return refusal
    pooled = (control + treatment).mean
    if pooled in (0.0, 1.0):
        return no_variance(control, treatment)
    low_control, high_control = wilson_bounds(control, alpha)
    low_treatment, high_treatment = wilson_bounds(treatment, alpha)
    p, q = treatment.mean, control.mean
    error = math.sqrt(pooled * (1.0 - pooled) * (1.0 / control.n + 1.0 / treatment.n))
    return Interval(
        estimate=p - q,
        # Newcombe (1998), Statistics in Medicine 17, 873-890: the tenth of its eleven methods.
        low=p - q - math.hypot(p - low_treatment, high_control - q),
        high=p - q + math.hypot(high_treatment - p, q - low_control),
        alpha=alpha,
        horizon="fixed",
        measures="difference",
        method="Newcombe, chi-square",
        n=control.n + treatment.n,
        p_value=chi_square_above(((p - q) / error) ** 2, 1.0),
    )


def wilson_bounds(share: ProportionStatistic, alpha: float) -> tuple[float, float]:
    """Wilson's score interval (low, high) of one share.

    Wilson (1927): (p + z^2/2n +- z sqrt(p (1 - p)/n + z^2/4n^2)) / (1 + z^2/n).
    Raises ValueError if there are no units.
    """
    check_alpha(alpha)
    n, p = share.n, share.mean
    z = normal_quantile(1.0 - alpha / 2.0)
    centre = p + z**2 / (2 * n)
    half_width = z * math.sqrt(p * (1.0 - p) / n + z**2 / (4 * n**2))
    return (
        max(0.0, (centre - half_width) / (1 + z**2 / n)),
        min(1.0, (centre + half_width) / (1 + z**2 / n)),
    )
