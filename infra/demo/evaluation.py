"""Measuring versions with `ratchet evaluate`. The truth is on disk only while that command runs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from infra.demo.dataset import Bank, Question
from infra.demo.place import truth_beside
from infra.demo.stack import Stack


class Measured(Struct, frozen=True, kw_only=True):
    """A figure with its interval."""

    metric: str
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    alpha: float | None = None
    horizon: str = ""
    resampled: str = ""
    units: int = 0
    note: str = ""


class Score(Struct, frozen=True, kw_only=True):
    """One version on one slice; `differences` are from the first version, on the same questions."""

    version: str
    slice: str
    questions: int
    values: dict[str, Measured]
    differences: dict[str, Measured]


class Evaluated(Struct, frozen=True, kw_only=True):
    """What the command found."""

    scores: tuple[Score, ...]

    def score(self, version: str, slice_name: str) -> Score | None:
        """One version on one slice, if there is such a slice."""
        for score in self.scores:
            if score.version == version and score.slice == slice_name:
                return score
        return None


async def evaluate(
    stack: Stack,
    bank: Bank,
    versions: Sequence[str],
    questions: Iterable[Question],
    slice_of: Callable[[Question], str],
    *,
    seed: int,
    apart_from: Iterable[Question] = (),
) -> Evaluated:
    """Score versions over the present documents; `apart_from` as in `ratchet evaluate`. Raises DemoError."""
    questions, apart_from = list(questions), list(apart_from)
    with _truth(stack.directory) as folder:
        asked, judged, apart = folder / "questions.jsonl", folder / "judgements.tsv", folder / "apart.jsonl"
        _write_jsonl(asked, ({"_id": q.id, "text": q.text, "slices": [slice_of(q)]} for q in questions))
        judged.write_text(
            "question\tdocument\trelevance\n"
            + "".join(f"{q.id}\t{d}\t1\n" for q in questions for d in sorted(bank.relevant[q.id])),
            encoding="utf-8",
        )
        arguments = ["--questions", str(asked), "--judgements", str(judged), "--seed", str(seed), "--json"]
        if apart_from:
            _write_jsonl(apart, ({"text": question.text} for question in apart_from))
            arguments += ["--apart-from", str(apart)]
        out = await stack.call("evaluate", *versions, *arguments)
    return msgspec.json.decode(out, type=Evaluated)


@contextlib.contextmanager
def _truth(project: Path) -> Iterator[Path]:
    """A folder of mode 0700 beside the stack's directory, gone at the end.

    Should this process be killed, the next run in the same place removes it.
    """
    folder = truth_beside(project)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _write_jsonl(path: Path, rows: Iterable[dict[str, object]]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
