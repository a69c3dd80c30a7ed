"""`ratchet evaluate`: versions on a team's golden questions. Decides nothing: users do that."""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table

from api.cli.door import tenant_option
from api.cli.project import Project

#: An evaluation of a few thousand questions takes a minute; an hour is a mistake.
TIMEOUT_S = 3600.0
MEMORY_BYTES = 8_000_000_000


@click.command()
@click.argument("versions", nargs=-1, required=True)
@click.option(
    "--questions",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="JSONL: _id, text, slices?, group?.",
)
@click.option(
    "--judgements",
    required=True,
    type=click.Path(exists=True, path_type=Path),
    help="TSV with a header: question id, document id, relevance.",
)
@click.option(
    "--apart-from",
    type=click.Path(exists=True, path_type=Path),
    help="JSONL with texts: questions near to none of them make slices of their own.",
)
@tenant_option
@click.option("--seed", default=0, show_default=True, help="Of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def evaluate(
    project: Project,
    versions: tuple[str, ...],
    questions: Path,
    judgements: Path,
    apart_from: Path | None,
    tenant: str,
    seed: int,
    as_json: bool,
) -> None:
    """Score VERSIONS (the first is what the others are compared with) over the tenant's present documents.

    nDCG@10 and MRR@10 per slice, each with the interval of a bootstrap over question groups.
    """
    from learners.artifacts import Artifacts
    from learners.children import Bounds, run_child
    from learners.evaluation import EvaluateTask, Evaluation

    artifacts = Artifacts(project.data / project.settings.artifacts.directory)
    directories = {version: artifacts.version(tenant, version) for version in versions}
    for version, directory in directories.items():
        if not directory.is_dir():
            raise click.ClickException(f"no version {version} in {directory.parent}: `ratchet model list`")
    task = EvaluateTask(
        versions={version: str(directory) for version, directory in directories.items()},
        questions=tuple(_questions(questions, judgements)),
        documents=tuple(asyncio.run(_documents(project, tenant))),
        vectors=str(artifacts.vectors(tenant)),
        apart_from=None if apart_from is None else tuple(row["text"] for row in _jsonl(apart_from)),
        seed=seed,
    )
    bounds = Bounds(timeout_s=TIMEOUT_S, memory_bytes=MEMORY_BYTES, nice=0)
    log = project.data / "log" / "evaluate.log"
    found = asyncio.run(run_child("learners.evaluation:evaluate_versions", task, Evaluation, bounds, log))
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        _print(found)


async def _documents(project: Project, tenant: str) -> list[Any]:
    from api.processes.learner_ports import LogFolds
    from schemas.topics import DOCUMENTS

    folds = LogFolds(project.settings.kafka.bootstrap, project.settings.streams.group)
    return list(await folds.documents(tenant, await folds.ends((DOCUMENTS,))))


def _jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise click.ClickException(f"{path}, line {number}: not JSON: {error}") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise click.ClickException(f'{path}, line {number}: expected an object with "text"')
        yield row


def _questions(questions: Path, judgements: Path) -> Iterator[Any]:
    from learners.evaluation import LabelledQuestion

    relevant: dict[str, dict[str, float]] = {}
    with judgements.open(encoding="utf-8", newline="") as file:
        reader = csv.reader(file, delimiter="\t")
        next(reader, None)
        for number, row in enumerate(reader, start=2):
            try:
                question, document, gain = row
                relevant.setdefault(question, {})[document] = float(gain)
            except ValueError as error:
                raise click.ClickException(
                    f"{judgements}, line {number}: expected question id, document id, relevance; got {row}"
                ) from error
    for question_row in _jsonl(questions):
        judged = relevant.get(str(question_row.get("_id")), {})
        labels = {document: gain for document, gain in judged.items() if gain > 0}
        if labels:
            yield LabelledQuestion(
                id=str(question_row["_id"]),
                text=question_row["text"],
                relevant=labels,
                group=str(question_row.get("group", "")),
                slices=tuple(question_row.get("slices", ())),
            )


def _print(found: Any) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("slice", "version", "questions", "nDCG@10", "difference", "MRR@10", "difference"):
        table.add_column(column)
    for score in found.scores:
        cells = []
        for metric in ("ndcg@10", "mrr@10"):
            cells += [_cell(score.values[metric], ""), _cell(score.differences.get(metric), "+")]
        table.add_row(score.slice, score.version, str(score.questions), *cells)
    Console(highlight=False, markup=False, emoji=False).print(table)


def _cell(measure: Any, sign: str) -> str:
    if measure is None or measure.estimate is None:
        return ""
    text = f"{measure.estimate:{sign}.3f}"
    return text if measure.low is None else f"{text} [{measure.low:{sign}.3f}, {measure.high:{sign}.3f}]"
