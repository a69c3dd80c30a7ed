"""The one always-valid interval: the difference of two arms, counted by unit, looked at as often as you like.

It decides canaries and experiments. Nothing else in the project may decide on data that are watched while
they come in.
"""

import math
from typing import Literal

from learners.statistics.findings import CannotSay, Interval, check_alpha
from learners.statistics.sufficient import Sample

#: Below this many units in the smaller arm the normal approximation is not to be trusted at every look.
MINIMUM_UNITS = 100

#: Each arm's variance is estimated as if this many further units had shown the pooled variance (never below
#: its own). A small arm that has not yet met a rare value would otherwise look too certain: looked at from 30
#: units on, in arms of 5-10 % and rare or skewed values, the plain formula erred in 8-11 % of simulated
#: streams at alpha = .05 and this one in 3-6 %; from MINIMUM_UNITS on it erred in at most 5 %.
STABILISER_UNITS = 50

#: A relative difference needs a control mean at least this many standard errors away from 0.
CONTROL_MEAN_ERRORS = 3.0


def tune_rho_squared(tuning_n: float, alpha: float) -> float:
    """rho^2 that makes the interval tightest at `tuning_n` units (both arms together).

    Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence sequences"
    (arXiv:2103.06476v7), equation 161: rho^2 = (-2 log alpha + log(1 - 2 log alpha)) / n.
    """
    check_alpha(alpha)
    if not tuning_n > 0:
        raise ValueError(f"tuning_n must be a positive number of units, got {tuning_n}")
    twice = -2.0 * math.log(alpha)
    return (twice + math.log(twice + 1.0)) / tuning_n


def always_valid_interval(
    control: Sample,
    treatment: Sample,
    *,
    alpha: float,
    tuning_n: float,
    measures: Literal["difference", "relative_difference"] = "difference",
    minimum_units: int = MINIMUM_UNITS,
    stabiliser_units: float = STABILISER_UNITS,
) -> Interval | CannotSay:
    """Asymptotic confidence sequence for treatment - control (or that, divided by control's mean).

    Guarantee: the intervals of *all* looks cover the true difference together with probability 1 - alpha
    (in the limit of many units; the tests simulate it for skewed values, 10 % arms, growing arms and units
    that return). It holds while the shares of the arms change, because the interval runs on information and
    not on the number of units (see `_effective_units`).

    Assumes that units are independent, randomised between the arms, and that each is in one arm only.

    tuning_n: units, both arms of equal size together, at which the interval is tightest; fix it before you
    look.
    minimum_units: what the smaller arm needs; below it the answer is `CannotSay`. At least 2.
    stabiliser_units: see STABILISER_UNITS; 0 gives the formula of the paper as it stands.
    """
    rho_squared = tune_rho_squared(tuning_n, alpha)
    refusal = refuse_arms(control, treatment, max(2, minimum_units))
    if refusal is not None:
        return refusal
    spread_control, spread_treatment = _stabilised_variances(control, treatment, stabiliser_units)
    if spread_control <= 0.0 or spread_treatment <= 0.0:
        return no_variance(control, treatment)
    estimate = treatment.mean - control.mean
    if measures == "relative_difference":
        scale = control_scale(control, spread_control)
        if isinstance(scale, CannotSay):
            return scale
        # Delta method: var((t - c)/c) = var(t)/c^2 + var(c) t^2/c^4.
        spread_treatment /= scale**2
        spread_control *= treatment.mean**2 / scale**4
        estimate /= scale
        if spread_control + spread_treatment <= 0.0:
            return no_variance(control, treatment)
    variance = spread_control / control.n + spread_treatment / treatment.n
    information = _effective_units(spread_control, spread_treatment, variance) * rho_squared
    half_width = math.sqrt(variance * _squared_margin(information, alpha))
    return Interval(
        estimate=estimate,
        low=estimate - half_width,
        high=estimate + half_width,
        alpha=alpha,
        horizon="always",
        measures=measures,
        method="asymptotic confidence sequence",
        n=control.n + treatment.n,
        p_value=_always_valid_p_value(estimate**2 / variance, information),
    )


def _effective_units(spread_control: float, spread_treatment: float, variance: float) -> float:
    """How many units an experiment with equal arms would need to know the difference as precisely.

    The paper's time is the number of units, which is right while the shares of the arms stay the same.
    Under a changing share the difference is still a Brownian motion in its *information* 1/variance: the
    likelihood ratio of the difference alone (the maximal invariant under a common shift of both arms),
    normal(estimate; d, variance) against normal(estimate; 0, variance), is a martingale for every d, and so
    is its mixture over d. Measured in units of equal arms both agree: with n units in each arm this returns
    2 n.
    """
    return 2.0 * (spread_control + spread_treatment) / variance


def _squared_margin(information: float, alpha: float) -> float:
    """Squared half-width of the interval in variances of the estimate; information = n rho^2.

    Waudby-Smith et al. (arXiv:2103.06476v7), equation 9 (Robbins' normal mixture):
    margin^2 = sigma^2 * 2 (n rho^2 + 1) / (n rho)^2 * log(sqrt(n rho^2 + 1) / alpha), sigma^2 = n variance.
    """
    return 2.0 * (information + 1.0) / information * math.log(math.sqrt(information + 1.0) / alpha)


def _always_valid_p_value(squared_z: float, information: float) -> float:
    """min(1, 1/e) of the mixture's e-value e; it is < alpha exactly where the interval excludes 0.

    Waudby-Smith et al. (arXiv:2103.06476v7), equation 155:
    e = exp(rho^2 S^2 / (2 (n rho^2 + 1))) / sqrt(n rho^2 + 1), with S^2 rho^2 = squared_z * n rho^2.
    """
    log_e = squared_z * information / (2.0 * (information + 1.0)) - 0.5 * math.log(information + 1.0)
    return math.exp(-max(0.0, log_e))


def _stabilised_variances(control: Sample, treatment: Sample, stabiliser_units: float) -> tuple[float, float]:
    """Variances between units of (control, treatment), each shrunk to the pooled one, never below its own."""
    if stabiliser_units < 0:
        raise ValueError(f"stabiliser_units must be 0 or more, got {stabiliser_units}")
    degrees = control.n + treatment.n - 2
    pooled = ((control.n - 1) * control.variance + (treatment.n - 1) * treatment.variance) / degrees

    def stabilise(arm: Sample) -> float:
        shrunk = (arm.n * arm.variance + stabiliser_units * pooled) / (arm.n + stabiliser_units)
        return max(arm.variance, shrunk)

    return stabilise(control), stabilise(treatment)


def refuse_arms(control: Sample, treatment: Sample, minimum_units: int) -> CannotSay | None:
    """Why two arms cannot be compared at all: too few units, or a mean that is undefined."""
    smaller = min(control.n, treatment.n)
    if smaller < minimum_units:
        return CannotSay(
            "too_few_units",
            f"each arm needs {minimum_units} units; control has {control.n}, treatment {treatment.n}",
            n=smaller,
            needed=minimum_units,
        )
    if not (control.measurable and treatment.measurable):
        return CannotSay("undefined_ratio", "the denominators of an arm sum to 0", n=smaller)
    return None


def no_variance(control: Sample, treatment: Sample) -> CannotSay:
    """The answer where an arm (or both) shows no spread, from which no uncertainty can be derived."""
    return CannotSay(
        "zero_variance",
        f"units do not vary: variance {control.variance:g} in control, {treatment.variance:g} in treatment",
        n=control.n + treatment.n,
    )


def control_scale(control: Sample, spread: float) -> float | CannotSay:
    """Control's mean as the divisor of a relative difference, if it is far enough from 0.

    spread: variance between units of control.
    """
    if abs(control.mean) <= CONTROL_MEAN_ERRORS * math.sqrt(spread / control.n):
        return CannotSay(
            "control_mean_near_zero",
            f"a relative difference needs a control mean {CONTROL_MEAN_ERRORS:g} standard errors from 0, "
            f"got {control.mean:g} with a standard error of {math.sqrt(spread / control.n):g}",
            n=control.n,
        )
    return control.mean
