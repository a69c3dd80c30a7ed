"""Evidently's two-sample tests of one window, as a process: `python -P -m learners.watch.two_sample`.

Evidently takes seconds and hundreds of MB to import, so the learner's daemon never does. Protocol: one JSON
object a line in (`WindowTest`), one a line out (`WindowResult`), in order. It ends at the end of its input,
or after `--idle-s` seconds without a question.
"""

from __future__ import annotations

import argparse
import os
import select
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

#: Two-sided, for numbers with or without ties, same test at every sample size; Evidently's own default
#: switches to a distance above 1,000 rows, and its "mannw" is one-sided.
METHOD: Final = "ks"


class WindowTest(Struct, frozen=True, kw_only=True):
    """A question: per column the finite values of the reference and of the window, and the column's alpha."""

    window: int
    #: Below this p-value the column fires.
    threshold: Annotated[float, Meta(gt=0, lt=1)]
    reference: dict[str, tuple[float, ...]]
    current: dict[str, tuple[float, ...]]


class WindowResult(Struct, frozen=True, kw_only=True):
    """The answer: p-value by column, or what went wrong."""

    window: int
    p_values: dict[str, float] = {}
    error: str = ""


def run_tests(question: WindowTest) -> dict[str, float]:
    """Evidently's p-value of every column that both samples have. Imports Evidently."""
    os.environ["DO_NOT_TRACK"] = "1"
    import pandas as pd  # noqa: PLC0415
    from evidently import DataDefinition, Dataset, Report  # noqa: PLC0415
    from evidently.metrics import ValueDrift  # noqa: PLC0415

    p_values = {}
    for column in sorted(question.reference.keys() & question.current.keys()):
        definition = DataDefinition(numerical_columns=[column])
        report = Report(
            [ValueDrift(column=column, method=METHOD, threshold=question.threshold)], include_tests=False
        )
        snapshot = report.run(
            Dataset.from_pandas(pd.DataFrame({column: question.current[column]}), data_definition=definition),
            Dataset.from_pandas(
                pd.DataFrame({column: question.reference[column]}), data_definition=definition
            ),
        )
        (metric,) = snapshot.dict()["metrics"]
        if metric["config"]["method"] != METHOD:
            raise ValueError(f"asked Evidently for {METHOD!r}, it ran {metric['config']['method']!r}")
        p_values[column] = float(metric["value"])
    return p_values


def answer(line: bytes) -> WindowResult:
    """The answer to one line; an error is an answer, too."""
    question = msgspec.json.decode(line, type=WindowTest)
    try:
        return WindowResult(window=question.window, p_values=run_tests(question))
    except Exception as error:  # whatever a library raises belongs to the one who asked
        return WindowResult(window=question.window, error=f"{type(error).__name__}: {error}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer questions until the input ends or nobody asks any more."""
    parser = argparse.ArgumentParser(description="two-sample tests of one window, JSON lines in and out")
    parser.add_argument("--idle-s", type=float, default=60.0)
    idle_s: float = parser.parse_args(arguments).idle_s
    # Libraries may print; the answers keep the real standard output for themselves.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    questions = os.fdopen(os.dup(0), "rb", buffering=0)
    pending = b""
    while select.select([questions], [], [], idle_s)[0]:
        chunk = questions.read(1 << 16)
        if not chunk:
            return
        *lines, pending = (pending + chunk).split(b"\n")
        for line in lines:
            answers.write(msgspec.json.encode(answer(line)) + b"\n")


if __name__ == "__main__":
    main(sys.argv[1:])
