"""The heavy steps on real parts: dataset → trials → version → judge, with the real model.

The toy problem: customers use words of their own ("bluebird" for a card), which the base model cannot know
and feedback teaches.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec
import numpy as np
import pytest

from learners.children import Bounds, run_child
from learners.freeze.dataset import Dataset, dataset_id, lines, write_dataset
from learners.freeze.labels import GradedQuestion, TrainQuestion
from learners.freeze.readiness import FeedbackCounts
from learners.pipeline.embedder import limit_cpu_threads, load_base_model
from learners.pipeline.manifest import verify_version
from learners.pipeline.publish import create_base_version
from learners.ports import CurrentDocument
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
from learners.train.tasks import judge_version, publish_trial, run_trial
from learners.train.trial_directory import TRIAL_NAME, read_trial
from schemas.datasets import DatasetManifest
from schemas.documents import text_hash
from schemas.versions import EMBEDDER_FOLDER, MANIFEST_NAME, artifact_hash

pytestmark = [pytest.mark.model, pytest.mark.timeout(240)]

#: What customers call it → what the documents call it.
WORDS = {
    "bluebird": "a lost bank card",
    "tulip": "the exchange rate",
    "lantern": "a refund from a shop",
    "pebble": "the PIN code",
    "anchor": "a transfer to another account",
    "marble": "cash from a machine",
    "feather": "the monthly fee",
    "saddle": "proof of identity",
}
TOPICS = list(WORDS)
LEARNED = (
    "My {} is the matter",
    "Where do I see my {}?",
    "{} does not work",
    "Help me with {} please",
    "I worry about {}",
    "What about the {} today",
    "Something with {} went wrong",
    "{} again",
)
ASKED = (
    "There is trouble with {}",
    "Why is my {} like this?",
    "Question on {}",
    "I need {} now",
    "Tell me about {}",
    "{} is missing",
    "Cannot find {}",
    "Who handles {}?",
)


def text_document(document_id: str, text: str) -> CurrentDocument:
    return CurrentDocument(document_id=document_id, title="", text=text, text_hash=text_hash("", text))


DOCUMENTS = [
    text_document(f"{place}-{n}", sentence.format(meaning))
    for place, meaning in enumerate(WORDS.values())
    for n, sentence in enumerate(("All about {}", "What to do about {}"))
]


def write_toy_dataset(root: Path) -> Path:
    """Eight topics, 64 questions to train on, 64 to choose and 64 to judge by, with perfect labels."""

    def question(text: str) -> dict[str, str]:
        name = hashlib.sha256(text.encode()).hexdigest()
        return {"question_id": name, "text": text, "group": name}

    def graded(sentences: tuple[str, ...], prefix: str) -> list[GradedQuestion]:
        return [
            GradedQuestion(
                **question(prefix + sentence.format(word)),
                queries=1,
                labels={d.document_id: float(d.document_id.startswith(f"{place}-")) for d in DOCUMENTS},
            )
            for place, word in enumerate(TOPICS)
            for sentence in sentences
        ]

    train = [
        TrainQuestion(
            **question(sentence.format(word)),
            queries=1,
            positives={f"{place}-0": 1.0, f"{place}-1": 0.5},
            masked=(f"{place}-0", f"{place}-1"),
            negatives=(f"{(place + 1) % len(TOPICS)}-0",),
        )
        for place, word in enumerate(TOPICS)
        for sentence in LEARNED
    ]
    contents = {
        "train.jsonl": lines(train),
        "validation.jsonl": lines(graded(ASKED, "")),
        "judge.jsonl": lines(graded(ASKED, "Good day. ")),
        "documents.jsonl": lines(DOCUMENTS),
        "counts.json": msgspec.json.encode(
            FeedbackCounts(
                train_questions=64,
                validation_groups=64,
                judge_groups=64,
                train_agreement=9.0,
                judge_agreement=9.0,
            )
        ),
    }
    manifest = DatasetManifest(
        dataset_id="",
        tenant="bank",
        offsets={},
        rules={},
        questions={"train": 64, "validation": 64, "judge": 64},
        pairs={},
        dropped={},
        files={name: hashlib.sha256(data).hexdigest() for name, data in contents.items()},
    )
    manifest = msgspec.structs.replace(manifest, dataset_id=dataset_id(manifest))
    return write_dataset(root, contents, manifest)


class Study:
    """A tenant's directory with a champion and a dataset; and tasks about them."""

    def __init__(self, root: Path) -> None:
        limit_cpu_threads(1)
        self.root = root
        self.champion = root / "versions" / "1.0.0"
        create_base_version(self.champion)
        self.dataset = write_toy_dataset(root / "datasets")

    def trial(self, number: int, directory: str = "") -> TrialTask:
        return TrialTask(
            number=number,
            trials=2,
            finished=(),
            seed=11,
            dataset=str(self.dataset),
            champion=str(self.champion),
            base=str(self.champion),
            directory=str(self.root / (directory or f"trial-{number}")),
            vectors=str(self.root / "vectors.sqlite"),
            max_questions=1000,
            threads=1,
        )

    def publish(self, directory: str, version: str) -> PublishTask:
        return PublishTask(
            trial=str(self.root / directory),
            champion=str(self.champion),
            target=str(self.root / "versions" / version),
            version=version,
            dataset_id=self.dataset.name,
        )

    def judge(self, challenger: str, dataset: Path | None = None) -> JudgeTask:
        return JudgeTask(
            champion=str(self.champion),
            challenger=str(self.root / "versions" / challenger),
            dataset=str(dataset or self.dataset),
            vectors=str(self.root / "vectors.sqlite"),
            margin=0.01,
            alpha=0.05,
            seed=3,
            threads=1,
        )


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(tmp_path_factory.mktemp("tenant"))


@pytest.fixture(scope="module")
def untrained(study: Study) -> TrialDone:
    return run_trial(study.trial(0))


@pytest.fixture(scope="module")
def trained(study: Study) -> TrialDone:
    return run_trial(study.trial(1))


def test_training_teaches_what_fusion_alone_cannot(untrained: TrialDone, trained: TrialDone) -> None:
    assert untrained.parameters == {"train": False}
    assert trained.parameters["train"] is True
    assert trained.value > untrained.value + 0.15
    assert 0 < trained.value <= 1


def test_a_trial_leaves_its_pipeline_and_nothing_else(
    study: Study, untrained: TrialDone, trained: TrialDone
) -> None:
    folders = {n: sorted(p.name for p in (study.root / f"trial-{n}").iterdir()) for n in (0, 1)}
    assert folders == {0: [TRIAL_NAME], 1: [EMBEDDER_FOLDER, TRIAL_NAME]}
    assert not [path for path in study.root.iterdir() if path.name.startswith(".")]
    assert read_trial(study.root / "trial-1").value == trained.value
    assert read_trial(study.root / "trial-0").embedder is None


def test_the_same_seed_gives_the_same_trial_and_replaces_what_a_killed_one_left(
    study: Study, trained: TrialDone
) -> None:
    left = study.root / "again" / EMBEDDER_FOLDER
    left.mkdir(parents=True)
    (left / "half").write_text("written")
    again = run_trial(study.trial(1, "again"))
    assert (again.parameters, again.value) == (trained.parameters, trained.value)
    one, two = (study.root / name / EMBEDDER_FOLDER for name in ("trial-1", "again"))
    weights = "model.safetensors"
    assert (one / weights).read_bytes() == (two / weights).read_bytes()
    assert not (two / "half").exists()


def test_publishing_twice_is_publishing_once(study: Study, trained: TrialDone) -> None:
    task = study.publish("trial-1", "1.1.0")
    partial = Path(task.target).with_name(".1.1.0.partial-killed")
    partial.mkdir()
    first = publish_trial(task)
    assert not partial.exists()
    assert publish_trial(task) == first
    manifest = verify_version(Path(task.target))
    assert first.manifest_hash == artifact_hash(manifest)
    assert (manifest.cause, manifest.parent, manifest.version) == ("data", "1.0.0", "1.1.0")
    trial = read_trial(Path(task.trial))
    assert (manifest.settings.fusion, manifest.dataset_hash) == (trial.fusion, trial.dataset_hash)


def test_a_version_that_nobody_was_told_of_is_replaced(study: Study, trained: TrialDone) -> None:
    task = study.publish("trial-0", "1.9.0")
    run_trial(study.trial(0))
    publish_trial(msgspec.structs.replace(task, trial=str(study.root / "trial-1")))
    done = publish_trial(task)
    assert done.manifest_hash == artifact_hash(verify_version(Path(task.target)))


def test_fusion_alone_shares_the_champions_embedder(study: Study, untrained: TrialDone) -> None:
    task = study.publish("trial-0", "1.2.0")
    publish_trial(task)
    manifest, champion = verify_version(Path(task.target)), verify_version(study.champion)
    assert (manifest.cause, manifest.embedder_hash) == ("search", champion.embedder_hash)
    weights = Path(EMBEDDER_FOLDER) / "model.safetensors"
    assert (Path(task.target) / weights).samefile(study.champion / weights)


def test_the_judge_admits_what_is_better_and_says_the_same_twice(study: Study, trained: TrialDone) -> None:
    publish_trial(study.publish("trial-1", "1.1.0"))
    done = judge_version(study.judge("1.1.0"))
    assert done.verdict == "admitted", done.reason
    assert done.measure.low is not None
    assert done.measure.low > 0
    assert done.unlabelled_ratio == 0
    assert judge_version(study.judge("1.1.0")) == done


def test_the_judge_refuses_what_is_broken(study: Study) -> None:
    """A champion that learned, against a challenger whose weights are noise."""
    broken = study.root / "broken"
    run_trial(study.trial(1, "broken"))
    model = load_base_model(str(broken / EMBEDDER_FOLDER))
    rng = np.random.default_rng(1)
    for parameter in model.parameters():
        parameter.data += parameter.data.new_tensor(rng.normal(0, 0.3, tuple(parameter.shape)))
    model.save_pretrained(str(broken / EMBEDDER_FOLDER), create_model_card=False)
    publish_trial(study.publish("broken", "1.3.0"))
    publish_trial(study.publish("trial-1", "1.1.0"))
    task = msgspec.structs.replace(study.judge("1.3.0"), champion=str(study.root / "versions" / "1.1.0"))
    done = judge_version(task)
    assert done.verdict == "refused", done.reason
    assert done.measure.high is not None
    assert done.measure.high < 0


def test_the_judge_cannot_say_where_nothing_differs(study: Study, trained: TrialDone) -> None:
    done = judge_version(msgspec.structs.replace(study.judge("1.0.0"), challenger=str(study.champion)))
    assert done.verdict == "cannot_say"
    assert "question groups on which the two differ" in done.reason


def test_the_judge_refuses_to_work_on_what_was_trained_on(
    study: Study, trained: TrialDone, tmp_path: Path
) -> None:
    publish_trial(study.publish("trial-1", "1.1.0"))
    manifest = Dataset(study.dataset).manifest
    leaking = {name: (study.dataset / name).read_bytes() for name in manifest.files}
    first = leaking["train.jsonl"].splitlines()[0]
    question = msgspec.json.decode(first, type=TrainQuestion)
    graded = GradedQuestion(
        question_id=question.question_id,
        text=question.text,
        group=question.group,
        queries=1,
        labels={"0-0": 1.0},
    )
    leaking["judge.jsonl"] += lines([graded])
    files = {name: hashlib.sha256(data).hexdigest() for name, data in leaking.items()}
    manifest = msgspec.structs.replace(manifest, files=files)
    manifest = msgspec.structs.replace(manifest, dataset_id=dataset_id(manifest))
    other = write_dataset(tmp_path, leaking, manifest)
    with pytest.raises(ValueError, match="judge it on its own dataset"):
        judge_version(study.judge("1.1.0", other))
    with pytest.raises(ValueError, match="1 question groups are in train and in judge"):
        judge_version(msgspec.structs.replace(study.judge("1.0.0", other), challenger=str(study.champion)))


@pytest.mark.service
async def test_children_run_every_step(
    study: Study, trained: TrialDone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    bounds, log = Bounds(timeout_s=120, memory_bytes=4 << 30), study.root / "children.log"
    tasks = "learners.train.tasks"
    (study.root / "episodes.msgpack").write_bytes(msgspec.msgpack.encode([]))
    (study.root / "documents.msgpack").write_bytes(msgspec.msgpack.encode(DOCUMENTS))
    freeze = FreezeTask(
        tenant="bank",
        episodes=str(study.root / "episodes.msgpack"),
        documents=str(study.root / "documents.msgpack"),
        offsets={},
        base=str(study.champion),
        datasets=str(study.root / "datasets"),
        seed=11,
    )
    frozen = await run_child(f"{tasks}:freeze_dataset", freeze, FreezeDone, bounds, log)
    assert frozen.manifest is None
    assert "train questions with a likely relevant document: 0 of 200" in frozen.too_little
    trial = await run_child(f"{tasks}:run_trial", study.trial(1, "child"), TrialDone, bounds, log)
    assert (trial.parameters, trial.value) == (trained.parameters, trained.value)
    published = await run_child(
        f"{tasks}:publish_trial", study.publish("child", "1.4.0"), PublishDone, bounds, log
    )
    manifest = study.root / "versions" / "1.4.0" / MANIFEST_NAME
    assert published.manifest_hash == hashlib.sha256(manifest.read_bytes()).hexdigest()
    done = await run_child(f"{tasks}:judge_version", study.judge("1.4.0"), JudgeDone, bounds, log)
    assert done.verdict == "admitted"


def test_a_later_trial_is_told_of_the_finished_ones(study: Study, trained: TrialDone) -> None:
    finished = (
        FinishedTrial(number=1, state="complete", parameters=trained.parameters, value=trained.value),
    )
    one = run_trial(msgspec.structs.replace(study.trial(2, "later"), finished=finished))
    assert one.parameters != trained.parameters
    assert one.parameters["train"] is True
