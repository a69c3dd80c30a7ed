"""A whole training through the daemon's steps: real children, the real model, a log made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from learners.artifacts import Artifacts
from learners.daemon.journal import Journal
from learners.daemon.training import TrainingSteps
from learners.freeze.settings import FreezeSettings
from learners.pipeline.manifest import verify_version
from learners.pipeline.publish import create_base_version, derive_version
from learners.settings import LearnerSettings
from learners.statistics.spending import spend
from learners.steps import Freeze, Judge, Propose, RunTrial, Wait
from learners.train.corpus import dataset_hash
from schemas import lifecycle as lc
from schemas.episodes import Episode
from schemas.versions import FusionSettings
from tests.lifecycle_events import event
from tests.unit.feedback_log import document, episode, pair
from tests.unit.learner_parts import OFFSETS, Clock, Lifecycle, lifecycle_up_to, training_steps

pytestmark = [pytest.mark.model, pytest.mark.service, pytest.mark.timeout(240)]

REQUESTED = 5
#: What documents are about → what customers call it. No word in common: the champion, which looks for
#: words only, finds nothing, and the model knows better.
TOPICS = {
    "replacing a stolen bank card": "lost debit plastic",
    "foreign currency exchange rates": "converting euros to dollars",
    "refunds from shops": "getting my money back after a purchase",
    "resetting a forgotten PIN": "my secret code is blocked",
    "transfers to other accounts": "sending cash to a friend",
    "withdrawals from cash machines": "ATM gave me nothing",
    "monthly account fees": "what do you charge every month",
    "proof of identity": "which passport photo do you need",
}
ASKED = (
    "{}",
    "help me: {}",
    "{} please",
    "question: {}",
    "I wonder, {}",
    "hello, {}",
    "urgent!! {}",
    "{} since yesterday",
    "my wife asks: {}",
    "on holiday: {}",
    "{} in Spain",
    "as a student, {}",
)
DOCUMENTS = [document(f"d{n}", f"{about} number {n}") for n, about in enumerate(list(TOPICS) * 2)]
#: Most of the questions are the judge's, every wording is a group of its own, and little is enough.
FREEZING = FreezeSettings(
    group_cosine=0.999,
    train_share=0.1,
    validation_share=0.2,
    minimum_train_questions=1,
    minimum_validation_groups=1,
    minimum_judge_groups=30,
    minimum_agreement=-1e9,
    minimum_judge_agreement=-1e9,
)


def clicks() -> list[Episode]:
    """Each question twice: a list of all documents in any order, and clicks on those that it is about."""
    rng = np.random.default_rng(1)
    texts = [words.format(topic) for topic in TOPICS.values() for words in ASKED] * 2
    episodes = []
    for number, text in enumerate(texts):
        topic = number // len(ASKED) % len(TOPICS)
        shown = [DOCUMENTS[i].document_id for i in rng.permutation(len(DOCUMENTS))]
        wanted = {f"d{topic}", f"d{topic + len(TOPICS)}"}
        pairs = [pair(hit, rank=rank) for rank, hit in enumerate(shown, start=1) if hit in wanted]
        episodes.append(episode(number, text, shown=shown, pairs=pairs))
    return sorted(episodes, key=lambda each: each.query_id)


async def take(steps: TrainingSteps, lifecycle: Lifecycle, expected: Sequence[type]) -> None:
    """Take the steps that are due, which must be these."""
    for kind in expected:
        step, state = await lifecycle.due(trials=1), await lifecycle.now()
        assert type(step) is kind
        match step:
            case Freeze():
                await steps.freeze("acme", step, state)
            case RunTrial():
                await steps.run_trial("acme", step, "1.0.0")
            case Propose():
                await steps.propose("acme", step, state)
            case Judge():
                await steps.judge("acme", step, state)


async def test_a_training_goes_from_the_log_to_an_admitted_version_and_alpha_is_spent(tmp_path: Path) -> None:
    lifecycle, place = await lifecycle_up_to(REQUESTED), Artifacts(tmp_path)
    champion = place.version("acme", "1.0.0")
    create_base_version(champion, fusion=FusionSettings(dense_weight=0.0))
    steps = training_steps(
        tmp_path,
        Journal(lifecycle, Clock()),
        LearnerSettings(trials=1, judge_alpha=0.1, judge_margin=0.02),
        episodes=clicks(),
        documents=DOCUMENTS,
        freezing=FREEZING,
    )
    await take(steps, lifecycle, [Freeze, RunTrial, Propose, Judge])
    assert isinstance(await lifecycle.due(trials=1), Wait)

    frozen, trial, proposed, judged = lifecycle.payloads(REQUESTED)
    assert isinstance(frozen, lc.DatasetFrozen)
    assert isinstance(trial, lc.TrialFinished)
    assert isinstance(proposed, lc.VersionProposed)
    assert isinstance(judged, lc.VersionJudged)
    dataset = place.dataset("acme", frozen.dataset_id)
    assert frozen.offsets == OFFSETS
    assert (trial.dataset_id, trial.number, trial.state) == (frozen.dataset_id, 0, "complete")
    assert trial.seconds > 0
    assert (proposed.dataset_id, proposed.validation) == (frozen.dataset_id, trial.value)
    manifest = verify_version(place.version("acme", "1.1.0"))
    assert (manifest.parent, manifest.dataset_hash) == ("1.0.0", dataset_hash(dataset))
    assert (judged.version, judged.verdict, judged.margin) == ("1.1.0", "admitted", 0.02)
    assert judged.measure.alpha == pytest.approx(spend(0.1, 1))
    causes = [written.causationid for written in lifecycle.events()[REQUESTED:]]
    assert causes == ["t1", *(written.id for written in lifecycle.events()[REQUESTED:-1])]

    # A second challenger of this tenant is judged with what is left, and stricter.
    derive_version(
        place.version("acme", "1.2.0"),
        parent=champion,
        version="1.2.0",
        cause="search",
        settings=manifest.settings,
        dataset_hash=dataset_hash(dataset),
    )
    second = lc.VersionProposed(
        version="1.2.0", manifest_hash="", origin="imported", dataset_id=frozen.dataset_id
    )
    await lifecycle.tell([event(second, "p2")])
    state = await lifecycle.now()
    await steps.judge("acme", Judge(state.versions["1.2.0"]), state)
    (*_, again) = lifecycle.payloads()
    assert isinstance(again, lc.VersionJudged)
    assert again.measure.alpha == pytest.approx(spend(0.1, 2))
    assert lifecycle.events()[-1].causationid == "p2"


async def test_too_little_feedback_ends_the_training_with_what_is_missing(tmp_path: Path) -> None:
    lifecycle, place = await lifecycle_up_to(REQUESTED), Artifacts(tmp_path)
    create_base_version(place.version("acme", "1.0.0"))
    steps = training_steps(tmp_path, Journal(lifecycle, Clock()), documents=DOCUMENTS)
    await take(steps, lifecycle, [Freeze])
    (abandoned,) = lifecycle.payloads(REQUESTED)
    assert isinstance(abandoned, lc.TrainingAbandoned)
    assert abandoned.reason.startswith("too little feedback to train on: train questions")
    assert "0 of 200 (200 more needed)" in abandoned.reason
    assert lifecycle.events()[-1].causationid == "t1"


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # children start with -P: the checkout must be importable by name
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
