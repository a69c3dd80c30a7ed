"""Canaries and experiments: start with the rule written down, measure, decide."""

from __future__ import annotations

import datetime as dt

from learners.canary import CanaryLook, look
from learners.daemon.journal import Journal
from learners.experiments import measure_experiment
from learners.ports import UnitMeasures
from learners.settings import LearnerSettings
from learners.steps import LookAtRollout, StartRollout
from schemas import lifecycle as lc
from schemas.lifecycle_state import Outcome
from schemas.serving import CHALLENGER_ARM, CHAMPION_ARM
from schemas.tenant_state import Experiment, LifecycleState


def plan_rollout(
    version: str, champion: str, settings: LearnerSettings, now: dt.datetime
) -> lc.RolloutStarted:
    """The canary's rule, as it stands in `rollout.started` and nowhere else from then on."""
    return lc.RolloutStarted(
        rollout=f"canary-{version}-against-{champion}",
        challenger=version,
        champion=champion,
        share=settings.canary_share,
        metric=settings.canary_metric,
        guardrails=settings.canary_guardrails,
        alpha=settings.canary_alpha,
        minimum_units=settings.canary_minimum_units,
        tuning_units=settings.canary_tuning_units,
        started_at=now,
        deadline=now + dt.timedelta(seconds=settings.canary_deadline_s),
    )


class RollingSteps:
    """Starts canaries, looks at them, and measures experiments."""

    def __init__(self, settings: LearnerSettings, journal: Journal, measures: UnitMeasures) -> None:
        self._settings = settings
        self._journal = journal
        self._measures = measures
        #: (tenant, experiment) → (time of the last measurement, its number).
        self._measured: dict[tuple[str, str], dt.datetime] = {}

    async def start(self, tenant: str, step: StartRollout, state: LifecycleState) -> Outcome:
        """Begin the canary of an admitted, ready version; how the state machine took it."""
        assert state.champion is not None
        plan = plan_rollout(step.version.version, state.champion, self._settings, self._journal.now())
        return await self._journal.write(tenant, plan, cause=step.cause)

    async def look(self, tenant: str, step: LookAtRollout) -> None:
        """Apply the rule once; write what it says, with the figures it was said on."""
        rollout, plan = step.rollout, step.rollout.started
        metrics = tuple(dict.fromkeys((plan.metric, *sorted(plan.guardrails), *self._settings.canary_beside)))
        units = await self._measures(tenant, plan.rollout, metrics)
        seen = look(plan, rollout.share, units, self._journal.now())
        if seen.decision == "continue" and not self._due(tenant, plan.rollout):
            return
        shares = {CHAMPION_ARM: 1 - rollout.share, CHALLENGER_ARM: rollout.share}
        measured = measure_experiment(
            plan.rollout,
            units,
            shares,
            control=CHAMPION_ARM,
            metrics=metrics,
            alpha=plan.alpha,
            tuning_units=plan.tuning_units,
            minimum_units=plan.minimum_units,
        )
        await self._write_measured(tenant, measured, cause=rollout.id, began=plan.started_at)
        verdict = _verdict(plan, seen)
        if verdict is not None:
            await self._journal.write(tenant, verdict, cause=rollout.id)

    async def measure(self, tenant: str, experiment: Experiment) -> None:
        """Publish what a running A/B test shows, once an interval."""
        defined = experiment.defined
        if not self._due(tenant, defined.experiment):
            return
        units = await self._measures(tenant, defined.experiment, defined.metrics)
        measured = measure_experiment(
            defined.experiment,
            units,
            {arm.name: arm.weight for arm in defined.arms},
            control=defined.arms[0].name,
            metrics=defined.metrics,
            alpha=defined.alpha,
            tuning_units=self._settings.canary_tuning_units,
            minimum_units=defined.minimum_units,
        )
        began = experiment.started_at or self._journal.now()
        await self._write_measured(tenant, measured, cause=experiment.started_by, began=began)

    def _due(self, tenant: str, experiment: str) -> bool:
        last = self._measured.get((tenant, experiment))
        return (
            last is None or (self._journal.now() - last).total_seconds() >= self._settings.measure_interval_s
        )

    async def _write_measured(
        self, tenant: str, measured: lc.ExperimentMeasured, *, cause: str, began: dt.datetime
    ) -> None:
        now = self._journal.now()
        self._measured[tenant, measured.experiment] = now
        # A measurement is a new fact each time, and a restart must not repeat an id: the attempt is the time
        # since the beginning, in tenths of a second (32 bits of them are 13 years).
        attempt = 1 + max(0, (now - began) // dt.timedelta(milliseconds=100))
        await self._journal.write(tenant, measured, cause=cause, attempt=attempt)


def _verdict(
    plan: lc.RolloutStarted, seen: CanaryLook
) -> lc.VersionPromoted | lc.VersionRolledBack | lc.VersionRejected | None:
    if seen.decision == "promote":
        return lc.VersionPromoted(
            version=plan.challenger,
            previous=plan.champion,
            by="canary",
            reason=seen.reason,
            measure=seen.measure,
        )
    if seen.decision == "roll_back":
        return lc.VersionRolledBack(
            version=plan.challenger, to=plan.champion, reason=seen.reason, measure=seen.measure
        )
    if seen.decision == "cannot_say":
        return lc.VersionRejected(
            version=plan.challenger, reason=seen.reason, verdict="cannot_say", measure=seen.measure
        )
    return None
