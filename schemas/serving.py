"""Which version a unit is served, and what it was exposed to: a pure function of state and unit."""

from __future__ import annotations

from msgspec import Struct

from schemas.assignment import assign_arm
from schemas.interactions import Exposure
from schemas.tenant_state import LifecycleState

CHAMPION_ARM = "champion"
CHALLENGER_ARM = "challenger"


class Serving(Struct, frozen=True, kw_only=True):
    """What to serve to one unit. Report `exposures` on the query, exactly as they stand here."""

    version: str | None
    exposures: tuple[Exposure, ...] = ()
    #: Versions to prepare; the champion first.
    prepare: tuple[str, ...] = ()


def assign(state: LifecycleState, unit: str | None) -> Serving:
    """The version and exposures of a unit; without a unit the champion, unexposed.

    One unit is served one version: while a canary runs, experiments that serve versions expose nobody. The
    others still do (an arm without a version is the application's own treatment).
    """
    version, exposures = state.champion, []
    if unit is not None:
        for name, experiment in sorted(state.experiments.items()):
            if not experiment.running or (experiment.serves_versions and state.rollout is not None):
                # Beside a canary an experiment of versions rests whole: its arms would mix with the canary's,
                # and one arm alone would compare two times.
                continue
            defined = experiment.defined
            index = assign_arm(name, unit, [arm.weight for arm in defined.arms], coverage=defined.coverage)
            if index is None:
                continue
            arm = defined.arms[index]
            exposures.append(Exposure(name, arm.name))
            version = arm.version or version
        if state.rollout is not None:
            rollout = state.rollout.started
            index = assign_arm(rollout.rollout, unit, [1 - state.rollout.share, state.rollout.share])
            if index is not None:
                exposures.append(Exposure(rollout.rollout, CHALLENGER_ARM if index else CHAMPION_ARM))
                version = rollout.challenger if index else state.champion
    return Serving(version=version, exposures=tuple(exposures), prepare=state.serving_versions())
