"""The steps of an open training: freeze, trials, proposal, judgement. Each heavy one is a child process."""

from __future__ import annotations

import hashlib
import logging
import shutil
from pathlib import Path

import msgspec

from learners.artifacts import Artifacts
from learners.children import Bounds, ChildFailed, run_child
from learners.daemon.journal import Journal
from learners.freeze.settings import FreezeSettings
from learners.ports import DocumentsAsOf, EpisodesAsOf, LogOffsets
from learners.settings import LearnerSettings
from learners.statistics.spending import spend
from learners.steps import Abandon, Freeze, Judge, Propose, Reject, RequestTraining, RunTrial
from learners.train.requests import (
    FinishedTrial,
    FreezeDone,
    FreezeTask,
    JudgeDone,
    JudgeTask,
    PublishDone,
    PublishTask,
    TrialDone,
    TrialTask,
)
from schemas import lifecycle as lc
from schemas.lifecycle_state import Outcome
from schemas.tenant_state import LifecycleState, Training
from schemas.topics import DOCUMENTS, INTERACTIONS
from schemas.versions import next_version_id

log = logging.getLogger(__name__)

_TASKS = "learners.train.tasks"
#: Threads of a child: both cores, at low priority; whoever serves goes first.
THREADS = 2


class TrainingSteps:
    """Carries out the steps of a training, and says how the state machine took each.

    Every step may be repeated: the log takes it once.
    """

    def __init__(
        self,
        settings: LearnerSettings,
        freezing: FreezeSettings,
        artifacts: Artifacts,
        logs: Path,
        journal: Journal,
        episodes: EpisodesAsOf,
        documents: DocumentsAsOf,
        offsets: LogOffsets,
    ) -> None:
        self._settings = settings
        self._freezing = freezing
        self._artifacts = artifacts
        self._log = logs / "learner-children.log"
        self._journal = journal
        self._episodes = episodes
        self._documents = documents
        self._offsets = offsets
        self._bounds = Bounds(timeout_s=settings.trial_timeout_s, memory_bytes=settings.trial_memory_bytes)

    async def request(self, tenant: str, step: RequestTraining) -> Outcome:
        """Answer a drift with a training; its seed follows from the drift, so that it can be repeated."""
        seed = int.from_bytes(hashlib.sha256(step.drift.encode()).digest()[:4])
        return await self._journal.write(
            tenant, lc.TrainingRequested(champion=step.champion, reason="drift", seed=seed), cause=step.drift
        )

    async def freeze(self, tenant: str, step: Freeze, state: LifecycleState) -> Outcome:
        """Fold the log up to its present end and make the dataset, or say that there is too little."""
        offsets = await self._offsets((INTERACTIONS, DOCUMENTS))
        study = self._artifacts.study(tenant, step.training.id)
        study.mkdir(parents=True, exist_ok=True)
        episodes = [episode async for episode in self._episodes(tenant, offsets)]
        documents = await self._documents(tenant, offsets)
        (study / "episodes.msgpack").write_bytes(msgspec.msgpack.encode(episodes))
        (study / "documents.msgpack").write_bytes(msgspec.msgpack.encode(documents))
        task = FreezeTask(
            tenant=tenant,
            episodes=str(study / "episodes.msgpack"),
            documents=str(study / "documents.msgpack"),
            offsets=offsets,
            base=str(self._artifacts.version(tenant, state.base or step.training.champion)),
            datasets=str(self._artifacts.dataset(tenant, "x").parent),
            seed=step.training.seed,
            settings=self._freezing,
        )
        try:
            done = await run_child(f"{_TASKS}:freeze_dataset", task, FreezeDone, self._bounds, self._log)
        except ChildFailed as failed:
            return await self._abandon(tenant, step.training.id, f"the dataset could not be made: {failed}")
        finally:
            # The log has them: no second copy of what people wrote stays on disk.
            for folded in ("episodes.msgpack", "documents.msgpack"):
                (study / folded).unlink(missing_ok=True)
        manifest = done.manifest
        if manifest is None:
            return await self._abandon(tenant, step.training.id, done.too_little)
        frozen = lc.DatasetFrozen(
            dataset_id=manifest.dataset_id,
            offsets=manifest.offsets,
            rules=hashlib.sha256(msgspec.json.encode(manifest.rules, order="sorted")).hexdigest()[:16],
            queries=manifest.questions,
            pairs=manifest.pairs,
            dropped=manifest.dropped,
        )
        return await self._journal.write(tenant, frozen, cause=step.training.id)

    async def run_trial(self, tenant: str, step: RunTrial, base: str) -> Outcome:
        """Run the next trial; a child that breaks a bound or fails is a failed trial, not a failed study."""
        training, number = step.training, step.number
        task = TrialTask(
            number=number,
            trials=self._settings.trials,
            finished=tuple(
                FinishedTrial(number=t.number, state=t.state, parameters=dict(t.parameters), value=t.value)
                for t in training.trials
            ),
            seed=training.seed,
            dataset=str(self._artifacts.dataset(tenant, training.dataset_id)),
            champion=str(self._artifacts.version(tenant, training.champion)),
            base=str(self._artifacts.version(tenant, base)),
            directory=str(self._trial(tenant, training, number)),
            vectors=str(self._artifacts.vectors(tenant)),
            max_questions=self._settings.max_training_questions,
            threads=THREADS,
        )
        began = self._journal.now()
        try:
            done = await run_child(f"{_TASKS}:run_trial", task, TrialDone, self._bounds, self._log)
            event = lc.TrialFinished(
                dataset_id=training.dataset_id,
                number=number,
                state="complete",
                parameters=done.parameters,
                value=done.value,
                seconds=done.seconds,
            )
        except ChildFailed as failed:
            seconds = (self._journal.now() - began).total_seconds()
            event = lc.TrialFinished(
                dataset_id=training.dataset_id,
                number=number,
                state="failed",
                seconds=seconds,
                error=str(failed),
            )
        return await self._journal.write(tenant, event, cause=training.frozen_by, attempt=number + 1)

    async def propose(self, tenant: str, step: Propose, state: LifecycleState) -> Outcome:
        """Publish the best trial's pipeline, complete on disk before the event names it."""
        training = step.training
        version = next_version_id(training.champion, "data", state.versions)
        trial = next(t for t in training.trials if t.number == step.trial)
        task = PublishTask(
            trial=str(self._trial(tenant, training, step.trial)),
            champion=str(self._artifacts.version(tenant, training.champion)),
            target=str(self._artifacts.version(tenant, version)),
            version=version,
            dataset_id=training.dataset_id,
        )
        try:
            done = await run_child(f"{_TASKS}:publish_trial", task, PublishDone, self._bounds, self._log)
        except ChildFailed as failed:
            return await self._abandon(tenant, step.cause, f"the version could not be published: {failed}")
        proposed = lc.VersionProposed(
            version=version,
            manifest_hash=done.manifest_hash,
            parent=training.champion,
            dataset_id=training.dataset_id,
            trial=step.trial,
            validation=trial.value,
        )
        outcome = await self._journal.write(tenant, proposed, cause=step.cause)
        if outcome.accepted:
            # A trial is as large as its embedder, and a version has what was worth keeping.
            shutil.rmtree(self._artifacts.study(tenant, training.id), ignore_errors=True)
        return outcome

    async def abandon(self, tenant: str, step: Abandon) -> Outcome:
        """End a training that gave no pipeline."""
        return await self._abandon(tenant, step.cause, step.reason)

    async def judge(self, tenant: str, step: Judge, state: LifecycleState) -> Outcome:
        """Ask the judge, with this challenger's part of the alpha (L9: it is spent over all challengers)."""
        assert state.champion is not None
        version = step.version
        alpha = spend(self._settings.judge_alpha, state.judgements + 1)
        margin = self._settings.judge_margin
        task = JudgeTask(
            champion=str(self._artifacts.version(tenant, state.champion)),
            challenger=str(self._artifacts.version(tenant, version.version)),
            dataset=str(self._artifacts.dataset(tenant, version.dataset_id)),
            vectors=str(self._artifacts.vectors(tenant)),
            margin=margin,
            alpha=alpha,
            seed=int.from_bytes(hashlib.sha256(version.proposed_by.encode()).digest()[:4]),
            threads=THREADS,
        )
        try:
            done = await run_child(f"{_TASKS}:judge_version", task, JudgeDone, self._bounds, self._log)
        except ChildFailed as failed:
            done = JudgeDone(
                verdict="cannot_say",
                reason=f"the judge failed: {failed}",
                measure=lc.Measure(metric="ndcg@10"),
                unlabelled_ratio=0.0,
            )
        judged = lc.VersionJudged(
            version=version.version,
            champion=state.champion,
            verdict=done.verdict,
            reason=done.reason,
            measure=done.measure,
            margin=margin,
            unlabelled_ratio=done.unlabelled_ratio,
        )
        return await self._journal.write(tenant, judged, cause=version.proposed_by)

    async def reject(self, tenant: str, step: Reject) -> Outcome:
        """Close a version that the judge did not admit."""
        judged = step.version.judged
        assert judged is not None
        rejected = lc.VersionRejected(
            version=step.version.version, reason=judged.reason, verdict=judged.verdict, measure=judged.measure
        )
        return await self._journal.write(tenant, rejected, cause=step.cause)

    async def _abandon(self, tenant: str, cause: str, reason: str) -> Outcome:
        return await self._journal.write(tenant, lc.TrainingAbandoned(reason=reason), cause=cause)

    def _trial(self, tenant: str, training: Training, number: int) -> Path:
        return self._artifacts.study(tenant, training.id) / f"trial-{number}"
