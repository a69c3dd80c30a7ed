"""Make a dataset of a tenant's episodes and documents: questions, groups, split, labels, files, manifest."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from learners.freeze import dataset as files
from learners.freeze.groups import SPLITS, Indices, Split, Vectors, lead_groups, near_earlier, split_of
from learners.freeze.labels import GradedQuestion, TrainQuestion, grades, train_labels
from learners.freeze.questions import Question, gather_questions
from learners.freeze.readiness import FeedbackCounts
from learners.freeze.relevance import Estimate, Floats, agreement, estimate_relevance, expected_clicks
from learners.freeze.settings import FreezeSettings
from learners.ports import CurrentDocument, Offsets
from schemas.datasets import DatasetManifest
from schemas.episodes import Episode

#: Texts → (n, d) float32 vectors of length 1, by one embedder that never changes (the base version's).
Encode = Callable[[Sequence[str]], Vectors]

#: Version of the rules in code; part of every dataset's hash.
LABEL_MODEL = "lift-1"


class Frozen(msgspec.Struct, frozen=True, kw_only=True):
    """A dataset on disk, and what it holds for a training (see `readiness.too_little`)."""

    manifest: DatasetManifest
    counts: FeedbackCounts


def freeze(
    episodes: Iterable[Episode],
    documents: Sequence[CurrentDocument],
    *,
    tenant: str,
    offsets: Offsets,
    encode: Encode,
    settings: FreezeSettings,
    root: Path,
    seed: int = 0,
) -> Frozen:
    """Write the dataset to `<root>/<dataset_id>` (or find it there).

    `episodes` and `documents` are folded from the log up to `offsets`. Their order does not matter. Equal
    input gives equal bytes and the same id. `seed` changes nothing in the content; it stands in the rules for
    whoever trains on it.
    """
    corpus = {document.document_id: document for document in documents}
    questions, dropped, kept = gather_questions(episodes, corpus)
    vectors = encode([question.text for question in questions])
    if len(vectors) != len(questions):
        raise ValueError(f"encode gave {len(vectors)} vectors for {len(questions)} texts")
    leaders = lead_groups(vectors, settings.group_cosine)
    splits = _split(tenant, questions, vectors, leaders, dropped, settings)
    # From train alone: nothing of a judge question reaches training.
    expected = expected_clicks([questions[i] for i in splits["train"]])

    rows: dict[Split, tuple[TrainQuestion | GradedQuestion, ...]] = {}
    agreements: dict[Split, float] = {}
    for name in SPLITS:
        members = splits[name]
        chosen = [questions[i] for i in members]
        estimates = _estimate(chosen, vectors[members], expected, settings)
        agreements[name] = agreement(chosen, estimates, expected)
        heads = [questions[i].id for i in leaders[members]]
        made = [
            _row(name, question, head, estimate, settings)
            for question, head, estimate in zip(chosen, heads, estimates, strict=True)
        ]
        rows[name] = tuple(sorted((row for row in made if row is not None), key=lambda row: row.question_id))
    counts = FeedbackCounts(
        train_questions=len(rows["train"]),
        validation_groups=len({row.group for row in rows["validation"]}),
        judge_groups=len({row.group for row in rows["judge"]}),
        train_agreement=round(agreements["train"], 4),
        judge_agreement=round(agreements["judge"], 4),
    )
    contents = {
        files.TRAIN: files.lines(rows["train"]),
        files.VALIDATION: files.lines(rows["validation"]),
        files.JUDGE: files.lines(rows["judge"]),
        files.DOCUMENTS: files.lines([corpus[key] for key in sorted(corpus)]),
        files.COUNTS: msgspec.json.encode(counts),
    }
    manifest = DatasetManifest(
        dataset_id="",
        tenant=tenant,
        offsets=offsets,
        rules={**settings.rules, "label_model": LABEL_MODEL, "seed": seed},
        questions={name: len(rows[name]) for name in SPLITS},
        pairs={"evidence": kept, **{name: sum(_pairs(row) for row in rows[name]) for name in SPLITS}},
        dropped=dict(sorted(dropped.items())),
        files={name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())},
    )
    manifest = msgspec.structs.replace(manifest, dataset_id=files.dataset_id(manifest))
    directory = files.write_dataset(root, contents, manifest)
    # An earlier freeze may have written the same content at other offsets: what lies there is what is true.
    return Frozen(manifest=files.Dataset(directory).manifest, counts=counts)


def _split(
    tenant: str,
    questions: Sequence[Question],
    vectors: Vectors,
    leaders: Indices,
    dropped: Counter[str],
    settings: FreezeSettings,
) -> dict[Split, Indices]:
    """Places of each split's questions; of a train and a judge question too similar the later one is in
    neither.
    """
    split_of_leader = {
        leader: split_of(tenant, settings.salt, questions[leader].text, settings.shares)
        for leader in set(leaders.tolist())
    }
    names = np.array([split_of_leader[leader] for leader in leaders.tolist()], dtype=object)
    members = {name: np.flatnonzero(names == name) for name in SPLITS}
    train, judge = members["train"], members["judge"]
    too_near = {
        "train": near_earlier(vectors, train, judge, settings.group_cosine),
        "judge": near_earlier(vectors, judge, train, settings.group_cosine),
    }
    for name, near in too_near.items():
        if near.any():
            dropped[f"question_near_{'judge' if name == 'train' else 'train'}"] += int(near.sum())
    return {
        "train": train[~too_near["train"]],
        "validation": members["validation"],
        "judge": judge[~too_near["judge"]],
    }


def _estimate(
    questions: Sequence[Question], vectors: Vectors, expected: Floats, settings: FreezeSettings
) -> list[dict[str, Estimate]]:
    return estimate_relevance(questions, vectors, expected, settings) if questions else []


def _row(
    split: Split, question: Question, group: str, estimates: dict[str, Estimate], settings: FreezeSettings
) -> TrainQuestion | GradedQuestion | None:
    """The question's line, None if it says nothing: no positive, or no document with a grade above 0."""
    if split == "train":
        positives, masked, negatives = train_labels(estimates, settings)
        if not positives:
            return None
        return TrainQuestion(
            question_id=question.id,
            text=question.text,
            group=group,
            queries=question.queries,
            positives=positives,
            masked=masked,
            negatives=negatives,
        )
    labels = grades(estimates, settings)
    if not any(grade > 0 for grade in labels.values()):
        return None
    return GradedQuestion(
        question_id=question.id, text=question.text, group=group, queries=question.queries, labels=labels
    )


def _pairs(row: TrainQuestion | GradedQuestion) -> int:
    """Question–document pairs that a line holds."""
    return len(row.positives) + len(row.negatives) if isinstance(row, TrainQuestion) else len(row.labels)
