"""The loop: for each tenant, the one step that is due."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Sequence

from learners.daemon.journal import Journal
from learners.daemon.rolling import RollingSteps
from learners.daemon.training import TrainingSteps
from learners.daemon.watching import Watching, life_of
from learners.ports import QueryFeed
from learners.settings import LearnerSettings
from learners.steps import (
    Abandon,
    Freeze,
    Judge,
    LookAtRollout,
    Propose,
    Reject,
    RequestTraining,
    RunTrial,
    StartRollout,
    Wait,
    Watch,
    next_step,
)
from learners.watch.settings import WatchSettings
from learners.watch.tester import Tester
from schemas.errors import Retryable
from schemas.tenant_state import LifecycleState

log = logging.getLogger(__name__)

#: Before every time.
_ALWAYS = dt.datetime.min.replace(tzinfo=dt.UTC)


class Learner:
    """Takes steps for ever. Killed at any moment, a new one goes on from the last event of the log.

    `steps_taken` grows with every step, idle looks included: whoever asks whether it makes progress reads it.
    """

    def __init__(
        self,
        settings: LearnerSettings,
        watch_settings: WatchSettings,
        journal: Journal,
        feed: QueryFeed,
        test: Tester,
        training: TrainingSteps,
        rolling: RollingSteps,
    ) -> None:
        self._settings = settings
        self._watch_settings = watch_settings
        self._journal = journal
        self._feed = feed
        self._test = test
        self._training = training
        self._rolling = rolling
        self._watching: dict[str, Watching] = {}
        self._waits: dict[str, str] = {}
        #: Tenant → when a step that could not be taken is tried again.
        self._not_before: dict[str, dt.datetime] = {}
        self.steps_taken = 0
        #: Tenant → the step it is at, by name; for `status` and the metrics.
        self.present: dict[str, str] = {}

    async def run(self, tenants: Sequence[str]) -> None:
        """Go round the tenants until cancelled. Raises Fatal: the lifecycle can no longer be followed."""
        while True:
            moved = False
            for tenant in sorted({*tenants, *self._journal.lifecycle.tenants()}):
                moved |= await self._turn_if_due(tenant)
                self.steps_taken += 1
            if not moved:
                await asyncio.sleep(self._settings.poll_s)

    async def _turn_if_due(self, tenant: str) -> bool:
        """`turn`, but for a tenant whose last step is to be tried again later."""
        if self._journal.now() < self._not_before.get(tenant, _ALWAYS):
            return False
        try:
            return await self.turn(tenant)
        except Retryable as error:
            self._not_before[tenant] = self._journal.now() + dt.timedelta(seconds=error.retry_after_s)
            log.warning("%s; tried again in %s s", error, error.retry_after_s, extra={"tenant": tenant})
            return False

    async def turn(self, tenant: str) -> bool:
        """Take the step that is due; whether another may be due at once. Raises Retryable.

        After a step that was ignored none is: the next one is decided on a later state.
        """
        state = await self._journal.state(tenant)
        for experiment in state.experiments.values():
            if experiment.running:
                await self._rolling.measure(tenant, experiment)
        step = next_step(state, trials=self._settings.trials)
        self.present[tenant] = type(step).__name__
        match step:
            case Wait():
                if self._waits.get(tenant) != step.why:
                    log.info("%s %s", step.why, step.command, extra={"tenant": tenant})
                    self._waits[tenant] = step.why
                return False
            case Watch():
                return await self._watch(tenant, state)
            case LookAtRollout():
                await self._rolling.look(tenant, step)
                return False
            case RequestTraining():
                if not await self._gathered(tenant, state):
                    self.present[tenant] = "Gather"
                    return False
                return (await self._training.request(tenant, step)).accepted
            case Freeze():
                return (await self._training.freeze(tenant, step, state)).accepted
            case RunTrial():
                base = state.base or step.training.champion
                return (await self._training.run_trial(tenant, step, base)).accepted
            case Propose():
                return (await self._training.propose(tenant, step, state)).accepted
            case Abandon():
                return (await self._training.abandon(tenant, step)).accepted
            case Judge():
                return (await self._training.judge(tenant, step, state)).accepted
            case Reject():
                return (await self._training.reject(tenant, step)).accepted
            case StartRollout():
                return (await self._rolling.start(tenant, step, state)).accepted

    async def _gathered(self, tenant: str, state: LifecycleState) -> bool:
        """Whether enough came since the drift: right after the alarm a training would see little new."""
        since = state.last_drift_at
        if since is None:
            return True
        now = self._journal.now()
        if (now - since).total_seconds() >= self._settings.gather_timeout_s:
            return True
        settled = now - dt.timedelta(seconds=self._watch_settings.settle_s)
        return await self._feed.count_since(tenant, since, settled) >= self._settings.gather_queries

    async def _watch(self, tenant: str, state: LifecycleState) -> bool:
        life = life_of(state)
        watching = self._watching.get(tenant)
        if watching is None or watching.life != life:
            watching = self._watching[tenant] = Watching(tenant, life, state)
        return await watching.look(state, self._feed, self._watch_settings, self._test, self._journal)
