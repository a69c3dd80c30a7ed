"""Which version a unit is served, and what it was exposed to: a pure function of state and unit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from schemas.assignment import assign_arm
from schemas.interactions import Exposure
from schemas.lifecycle import Arm
from schemas.tenant_state import LifecycleState

CHAMPION_ARM = "champion"
CHALLENGER_ARM = "challenger"


class Rule(Struct, frozen=True, kw_only=True):
    """One experiment that units are assigned to now, with all that the assignment hash needs.

    `schemas.assignment.assign_arm(seed, unit, weights of the arms, coverage)` says the arm, or none; the unit
    is exposed to (experiment, arm), and served the arm's version if it has one. Ranges are half-open.
    """

    experiment: str
    seed: str
    arms: tuple[Arm, ...]
    coverage: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Serving(Struct, frozen=True, kw_only=True):
    """What to serve to one unit. Report `exposures` on the query, exactly as they stand here."""

    version: str | None
    exposures: tuple[Exposure, ...] = ()
    #: Versions to prepare; the champion first.
    prepare: tuple[str, ...] = ()
    #: Only without a unit: what assigns every unit, in the order in which the rules apply; a later arm's
    #: version goes before an earlier one's. `version` is what a unit is served that no arm gives another.
    rules: tuple[Rule, ...] | UnsetType = UNSET


def assignment_rules(state: LifecycleState) -> Iterator[Rule]:
    """The rules of this state, in the order in which they apply.

    One unit is served one version: while a canary runs, experiments that serve versions expose nobody. The
    others still do (an arm without a version is the application's own treatment).
    """
    for name, experiment in sorted(state.experiments.items()):
        if not experiment.running or (experiment.serves_versions and state.rollout is not None):
            # Beside a canary an experiment of versions rests whole: its arms would mix with the canary's,
            # and one arm alone would compare two times.
            continue
        defined = experiment.defined
        yield Rule(experiment=name, seed=name, arms=defined.arms, coverage=defined.coverage)
    if state.rollout is not None:
        rollout, share = state.rollout.started, state.rollout.share
        arms = (
            Arm(CHAMPION_ARM, 1 - share, state.champion or ""),
            Arm(CHALLENGER_ARM, share, rollout.challenger),
        )
        yield Rule(experiment=rollout.rollout, seed=rollout.rollout, arms=arms)


def assign(state: LifecycleState, unit: str | None) -> Serving:
    """The version and exposures of a unit; without a unit the champion, unexposed, and the rules."""
    if unit is None:
        rules = tuple(assignment_rules(state))
        return Serving(version=state.champion, prepare=state.serving_versions(), rules=rules)
    version, exposures = state.champion, []
    for rule in assignment_rules(state):
        index = assign_arm(rule.seed, unit, [arm.weight for arm in rule.arms], coverage=rule.coverage)
        if index is not None:
            arm = rule.arms[index]
            exposures.append(Exposure(rule.experiment, arm.name))
            version = arm.version or version
    return Serving(version=version, exposures=tuple(exposures), prepare=state.serving_versions())
