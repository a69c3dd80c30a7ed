"""Assigns units without asking: the rules of the server, applied here by the same hash."""

from __future__ import annotations

from array import array

from ratchet_client.results import Exposure, Rule, Serving


def assignment_hash(seed: str, unit: str) -> float:
    """A number in [0, 1) in steps of 1/10,000: GrowthBook's hash, version 2.

    FNV-1a (32 bit) over UTF-16 code units, twice, so that a browser finds the same number.
    """
    return _fnv1a(str(_fnv1a(f"{seed}{unit}"))) % 10_000 / 10_000


def _fnv1a(text: str) -> int:
    number = 2_166_136_261
    # "utf-16" in the byte order of this machine, as the array reads it; without its mark of that order.
    for unit in array("H", text.encode("utf-16")[2:]):
        number = ((number ^ unit) * 16_777_619) & 0xFFFFFFFF
    return number


def arm_of(rule: Rule, unit: str) -> int | None:
    """Which arm of the rule this unit is in; None if it takes no part.

    Each arm begins where the one before would end at full coverage, and owns `weight * coverage` from there;
    the end is not part of it.
    """
    number, begin = assignment_hash(rule.seed, unit), 0.0
    for index, arm in enumerate(rule.arms):
        if begin <= number < begin + arm.weight * rule.coverage:
            return index
        begin += arm.weight
    return None


def assign(told: Serving, unit: str | None) -> Serving:
    """What a unit is served under the rules that the server told (`Ratchet.serving()` without a unit).

    The same as `Ratchet.serving(unit)` answered at that moment. Without a unit: the champion, unexposed.
    """
    version, exposures = told.version, []
    for rule in told.rules or () if unit else ():
        index = arm_of(rule, unit or "")
        if index is not None:
            arm = rule.arms[index]
            exposures.append(Exposure(rule.experiment, arm.name))
            version = arm.version or version
    return Serving(version, tuple(exposures), told.prepare)
