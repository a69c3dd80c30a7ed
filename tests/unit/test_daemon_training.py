"""What the daemon writes of a training's steps: real children, over artifacts that are bare or damaged."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import pytest

from learners.artifacts import Artifacts
from learners.daemon.journal import SOURCE, Journal
from learners.daemon.training import TrainingSteps
from learners.freeze.dataset import dataset_id, write_dataset
from learners.settings import LearnerSettings
from learners.steps import Abandon, Freeze, Judge, Propose, Reject, RequestTraining, RunTrial, Watch
from learners.train.corpus import dataset_hash
from learners.train.trial_directory import Trial, write_trial
from schemas import lifecycle as lc
from schemas.datasets import DatasetManifest
from schemas.ids import step_id
from schemas.versions import MANIFEST_NAME, FusionSettings, decode_manifest
from tests.lifecycle_events import event, whole_story
from tests.unit.learner_parts import Clock, Lifecycle, lifecycle_up_to, training_steps, write_bare_version

pytestmark = pytest.mark.service

DRIFTED, REQUESTED, FROZEN, STUDIED, PROPOSED = 4, 5, 6, 8, 9


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # children start with -P: the checkout must be importable by name
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


def steps_over(lifecycle: Lifecycle, root: Path, settings: LearnerSettings | None = None) -> TrainingSteps:
    """The real steps, with a log that holds no query."""
    return training_steps(root, Journal(lifecycle, Clock()), settings)


async def request(lifecycle: Lifecycle, root: Path) -> None:
    """Answer the drift that waits."""
    step = RequestTraining("d1", "1.0.0")
    await steps_over(lifecycle, root).request("acme", step)


async def test_a_drift_is_answered_once_and_with_a_seed_of_its_own(tmp_path: Path) -> None:
    lifecycle = await lifecycle_up_to(DRIFTED)
    await request(lifecycle, tmp_path)
    await request(lifecycle, tmp_path)  # by a learner that was killed before it read its step back
    first, second = lifecycle.events()[DRIFTED:]
    assert first == second
    assert (first.id, first.source) == (step_id("d1", "ratchet.training.requested.v1"), SOURCE)
    assert (first.causationid, first.attempt, first.door) == ("d1", 1, "learner")
    assert [outcome.accepted for outcome in lifecycle.outcomes[DRIFTED:]] == [True, False]
    training = (await lifecycle.now()).training
    assert training is not None
    assert training.id == first.id

    other = await lifecycle_up_to(DRIFTED - 1)
    drift = msgspec.structs.replace(whole_story()[DRIFTED - 1], id="d2")
    await other.tell([drift])
    await steps_over(other, tmp_path).request("acme", RequestTraining("d2", "1.0.0"))
    another = (await other.now()).training
    assert another is not None
    assert another.seed != training.seed
    assert 0 <= training.seed < 2**32


async def test_a_dataset_that_cannot_be_made_ends_the_training_and_says_why(tmp_path: Path) -> None:
    lifecycle = await lifecycle_up_to(REQUESTED)
    step = await lifecycle.due()
    assert isinstance(step, Freeze)
    await steps_over(lifecycle, tmp_path).freeze("acme", step, await lifecycle.now())
    (written,), (abandoned,) = lifecycle.events()[REQUESTED:], lifecycle.payloads(REQUESTED)
    assert isinstance(abandoned, lc.TrainingAbandoned)
    assert "the dataset could not be made" in abandoned.reason
    assert "VersionDamaged" in abandoned.reason  # there is no base to group questions with
    assert (written.causationid, written.attempt) == ("t1", 1)
    assert isinstance(await lifecycle.due(), Watch)
    assert not Artifacts(tmp_path).dataset("acme", "x").parent.exists()


async def test_failed_trials_are_told_one_by_one_and_the_study_goes_on(tmp_path: Path) -> None:
    """The champion is damaged for the first; the second runs into the bound on its time."""
    place = Artifacts(tmp_path)
    write_bare_version(place.version("acme", "1.0.0"))
    (place.version("acme", "1.0.0") / "embedder" / "modules.json").write_text("[ ]")
    lifecycle = await lifecycle_with(write_empty_dataset(place))
    for settings in (LearnerSettings(), LearnerSettings(trial_timeout_s=0.05)):
        step = await lifecycle.due()
        assert isinstance(step, RunTrial)
        await steps_over(lifecycle, tmp_path, settings).run_trial("acme", step, "1.0.0")

    trials = [payload for payload in lifecycle.payloads(FROZEN) if isinstance(payload, lc.TrialFinished)]
    assert [(trial.number, trial.state, trial.value) for trial in trials] == [
        (0, "failed", None),
        (1, "failed", None),
    ]
    assert "VersionDamaged" in trials[0].error
    assert "ran longer than its bound of 0.05 s" in trials[1].error
    written = lifecycle.events()[FROZEN:]
    assert [(event.causationid, event.attempt) for event in written] == [("f1", 1), ("f1", 2)]
    assert [event.id for event in written] == [
        step_id("f1", "ratchet.trial.finished.v1", attempt) for attempt in (1, 2)
    ]
    last = await lifecycle.due()
    assert isinstance(last, Abandon)
    await steps_over(lifecycle, tmp_path).abandon("acme", last)
    (end,) = lifecycle.events()[FROZEN + 2 :]
    assert end.causationid == written[1].id
    assert isinstance(await lifecycle.due(), Watch)


async def test_a_trial_that_was_run_twice_counts_once(tmp_path: Path) -> None:
    lifecycle = await lifecycle_up_to(FROZEN)
    step = await lifecycle.due()
    assert isinstance(step, RunTrial)
    steps = steps_over(lifecycle, tmp_path, LearnerSettings(trial_timeout_s=0.05))
    for _ in range(2):
        await steps.run_trial("acme", step, "1.0.0")
    assert [outcome.accepted for outcome in lifecycle.outcomes[FROZEN:]] == [True, False]
    assert lifecycle.outcomes[-1].reason.startswith("repeated")
    again = await lifecycle.due()
    assert isinstance(again, RunTrial)
    assert again.number == 1


async def test_a_trial_that_left_nothing_cannot_be_published(tmp_path: Path) -> None:
    lifecycle = await lifecycle_up_to(STUDIED)
    step = await lifecycle.due()
    assert isinstance(step, Propose)
    await steps_over(lifecycle, tmp_path).propose("acme", step, await lifecycle.now())
    (written,), (abandoned,) = lifecycle.events()[STUDIED:], lifecycle.payloads(STUDIED)
    assert isinstance(abandoned, lc.TrainingAbandoned)
    assert "the version could not be published" in abandoned.reason
    assert "FileNotFoundError" in abandoned.reason
    assert written.causationid == "x1"
    state = await lifecycle.now()
    assert (state.training, set(state.versions)) == (None, {"1.0.0"})


async def test_a_challenger_that_the_judge_cannot_judge_is_proposed_judged_and_rejected(
    tmp_path: Path,
) -> None:
    """The dataset has no judge question."""
    place = Artifacts(tmp_path)
    write_bare_version(place.version("acme", "1.0.0"))
    dataset = write_empty_dataset(place)
    lifecycle = await lifecycle_with(dataset)
    await lifecycle.tell(
        [
            event(
                lc.TrialFinished(dataset_id=dataset.name, number=0, state="complete", value=0.5),
                "y0",
                cause="f1",
            )
        ]
    )
    step = await lifecycle.due(trials=1)
    assert isinstance(step, Propose)
    leave_trial(place, dataset)
    steps = steps_over(lifecycle, tmp_path)
    await steps.propose("acme", step, await lifecycle.now())

    (proposed,) = lifecycle.payloads(FROZEN + 1)
    manifest = place.version("acme", "1.1.0") / MANIFEST_NAME
    assert proposed == lc.VersionProposed(
        version="1.1.0",
        manifest_hash=hashlib.sha256(manifest.read_bytes()).hexdigest(),
        parent="1.0.0",
        dataset_id=dataset.name,
        trial=0,
        validation=0.5,
    )
    assert decode_manifest(manifest.read_bytes()).settings.fusion.dense_weight == 0.25

    judge = await lifecycle.due(trials=1)
    assert isinstance(judge, Judge)
    await steps.judge("acme", judge, await lifecycle.now())
    reject = await lifecycle.due(trials=1)
    assert isinstance(reject, Reject)
    await steps.reject("acme", reject)
    judged, rejected = lifecycle.payloads(FROZEN + 2)
    assert isinstance(judged, lc.VersionJudged)
    assert isinstance(rejected, lc.VersionRejected)
    assert (judged.verdict, judged.champion, judged.margin) == ("cannot_say", "1.0.0", 0.01)
    assert "no judge question" in judged.reason
    assert (rejected.version, rejected.verdict, rejected.reason) == ("1.1.0", "cannot_say", judged.reason)
    chain = lifecycle.events()[FROZEN:]
    assert [later.causationid for later in chain[1:]] == [earlier.id for earlier in chain[:-1]]
    assert {later.attempt for later in chain} == {1}
    assert isinstance(await lifecycle.due(trials=1), Watch)


async def test_a_judge_that_fails_keeps_the_champion(tmp_path: Path) -> None:
    lifecycle = await lifecycle_up_to(PROPOSED)
    step = await lifecycle.due()
    assert isinstance(step, Judge)
    await steps_over(lifecycle, tmp_path).judge("acme", step, await lifecycle.now())
    (judged,) = lifecycle.payloads(PROPOSED)
    assert isinstance(judged, lc.VersionJudged)
    assert judged.verdict == "cannot_say"
    assert judged.reason.startswith(
        "the judge failed: learners.train.tasks:judge_version ended with status 1"
    )
    assert judged.measure == lc.Measure(metric="ndcg@10")
    reject = await lifecycle.due()
    assert isinstance(reject, Reject)
    await steps_over(lifecycle, tmp_path).reject("acme", reject)
    state = await lifecycle.now()
    assert (state.champion, state.training) == ("1.0.0", None)
    assert state.versions["1.1.0"].stage == "rejected"


def write_empty_dataset(place: Artifacts) -> Path:
    """A sound dataset of `acme` without a question."""
    contents = dict.fromkeys(("train.jsonl", "validation.jsonl", "judge.jsonl", "documents.jsonl"), b"")
    none = {"train": 0, "validation": 0, "judge": 0}
    manifest = DatasetManifest(
        dataset_id="",
        tenant="acme",
        offsets={},
        rules={},
        questions=none,
        pairs=none,
        dropped={},
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
    manifest = msgspec.structs.replace(manifest, dataset_id=dataset_id(manifest))
    return write_dataset(place.dataset("acme", "x").parent, contents, manifest)


async def lifecycle_with(dataset: Path) -> Lifecycle:
    """A lifecycle of `acme` whose training stands at this dataset."""
    lifecycle = await lifecycle_up_to(REQUESTED)
    await lifecycle.tell(
        [event(lc.DatasetFrozen(dataset_id=dataset.name, offsets={}, rules="1"), "f1", cause="t1")]
    )
    return lifecycle


def leave_trial(place: Artifacts, dataset: Path) -> None:
    """What trial 0 leaves: the champion's embedder with another fusion."""
    stage = place.study("acme", "t1") / "trial-0"
    stage.mkdir(parents=True)
    trial = Trial(
        number=0,
        parameters={"train": False},
        value=0.5,
        fusion=FusionSettings(dense_weight=0.25),
        embedder=None,
        dataset_hash=dataset_hash(dataset),
    )
    write_trial(stage, trial)
