"""The canary's rule: fixed in `rollout.started`, applied at every look, decided by one interval."""

from __future__ import annotations

import datetime as dt
from typing import Literal

import msgspec
from msgspec import Struct

from learners.experiments import as_measure, compare_units
from learners.ports import ExperimentUnits
from learners.statistics.findings import CannotSay, Interval
from learners.statistics.sample_ratio import check_sample_ratio
from schemas.lifecycle import Measure, RolloutStarted
from schemas.serving import CHALLENGER_ARM, CHAMPION_ARM

Decision = Literal["promote", "roll_back", "cannot_say", "continue"]


class CanaryLook(Struct, frozen=True, kw_only=True):
    """One look: what to do, why, and the primary measure behind it."""

    decision: Decision
    reason: str
    measure: Measure


def look(rollout: RolloutStarted, share: float, units: ExperimentUnits, now: dt.datetime) -> CanaryLook:
    """Apply the rule to what the units did so far.

    Guardrails come first, then the primary metric, then the deadline. Looking often costs nothing: the
    interval holds at all looks together (L9). The guardrails share one alpha (Bonferroni).
    """
    primary = _difference(rollout, rollout.metric, units, rollout.alpha)
    measure = as_measure(rollout.metric, primary)
    for metric, largest_fall in sorted(rollout.guardrails.items()):
        breach = _breach(rollout, metric, largest_fall, units)
        if breach is not None:
            return CanaryLook(decision="roll_back", reason=breach, measure=measure)
    ratio = check_sample_ratio(
        {arm: units.exposed.get(arm, 0) for arm in (CHAMPION_ARM, CHALLENGER_ARM)},
        {CHAMPION_ARM: 1 - share, CHALLENGER_ARM: share},
    )
    if not isinstance(ratio, CannotSay) and ratio.mismatch:
        reason = f"the arms did not get their shares of units ({ratio.counts}): no comparison can be trusted"
        return CanaryLook(decision="cannot_say", reason=reason, measure=measure)
    if isinstance(primary, Interval):
        interval = f"{primary.estimate:+.4f} [{primary.low:+.4f}, {primary.high:+.4f}]"
        if primary.above(0):
            reason = f"{rollout.metric} is higher by {interval}"
            return CanaryLook(decision="promote", reason=reason, measure=measure)
        if primary.below(0):
            reason = f"{rollout.metric} is lower by {interval}"
            return CanaryLook(decision="roll_back", reason=reason, measure=measure)
    if now >= rollout.deadline:
        reason = f"the deadline {rollout.deadline.isoformat()} came while the interval still held 0"
        return CanaryLook(decision="cannot_say", reason=measure.note or reason, measure=measure)
    return CanaryLook(decision="continue", reason="the interval still holds 0", measure=measure)


def _difference(
    rollout: RolloutStarted, metric: str, units: ExperimentUnits, alpha: float
) -> Interval | CannotSay:
    return compare_units(
        units.measures.get(metric, ()),
        CHAMPION_ARM,
        CHALLENGER_ARM,
        alpha=alpha,
        tuning_units=rollout.tuning_units,
        minimum_units=rollout.minimum_units,
    ).difference


def _breach(rollout: RolloutStarted, metric: str, largest_fall: float, units: ExperimentUnits) -> str | None:
    """Why this guardrail is breached, or None: the whole interval of the change lies beyond what is allowed.

    `largest_fall` > 0 is a relative fall; < 0 a relative rise (for measures where lower is better). "A fall
    of more than 5 %" is asked as challenger - .95 champion < 0, which needs no division: a relative
    difference says nothing where the champion has next to none, and there a rise of complaints is worst.
    """
    allowed = 1.0 - largest_fall
    rows = tuple(
        msgspec.structs.replace(unit, total=unit.total * allowed) if unit.arm == CHAMPION_ARM else unit
        for unit in units.measures.get(metric, ())
    )
    beyond = compare_units(
        rows,
        CHAMPION_ARM,
        CHALLENGER_ARM,
        alpha=rollout.alpha / len(rollout.guardrails),
        tuning_units=rollout.tuning_units,
        minimum_units=rollout.minimum_units,
    ).difference
    if isinstance(beyond, CannotSay):
        return None
    interval = f"{beyond.estimate:+.4f} [{beyond.low:+.4f}, {beyond.high:+.4f}]"
    text = f"guardrail {metric}: challenger - {allowed:g} × champion is {interval}"
    if largest_fall >= 0 and beyond.below(0.0):
        return f"{text}: a fall of more than {largest_fall:.0%}"
    if largest_fall < 0 and beyond.above(0.0):
        return f"{text}: a rise of more than {-largest_fall:.0%}"
    return None
