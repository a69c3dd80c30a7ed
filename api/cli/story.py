"""`ratchet story`: the lifecycle as prose."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from api.cli.door import tenant_option
from api.cli.lifecycle import History, Step, followed, read_history
from api.cli.project import Project
from api.cli.prose import moment, tell, tell_cause, title
from api.settings import Settings
from schemas.lifecycle import ExperimentMeasured

_LOOK_S = 5.0


@click.command()
@tenant_option
@click.option("--follow", "-f", is_flag=True, help="Go on telling what happens, until Ctrl-C.")
@click.pass_obj
def story(project: Project, tenant: str, follow: bool) -> None:
    """What the platform did, step by step, with causes and figures.

    Steps that did not count are told, too, and say why. Of the measurements of an experiment only the last is
    told.
    """
    console = Console(highlight=False)
    if follow:
        asyncio.run(_follow(console, project.settings, tenant))
        return
    history = read_history(project.settings, tenant)
    if not history.steps:
        console.print(
            f"Nothing has happened yet for tenant {tenant}: the story begins when search proposes the base "
            "version (`ratchet up`), or with `ratchet experiment define`."
        )
    for step, note in without_repetition(history.steps):
        print_step(console, step, history, note)


async def _follow(console: Console, settings: Settings, tenant: str) -> None:
    async with followed(settings, tenant) as (tail, history):
        told = 0
        while True:
            now = await history()
            for step in now.steps[told:]:
                print_step(console, step, now)
            told = len(now.steps)
            await tail.wait_changed(_LOOK_S)


def without_repetition(steps: Sequence[Step]) -> Iterator[tuple[Step, str]]:
    """Steps, each with a note; of an experiment's measurements the last one only."""
    measured: dict[str, list[int]] = {}
    for index, step in enumerate(steps):
        if isinstance(step.payload, ExperimentMeasured):
            measured.setdefault(step.payload.experiment, []).append(index)
    for index, step in enumerate(steps):
        if not isinstance(step.payload, ExperimentMeasured):
            yield step, ""
            continue
        places = measured[step.payload.experiment]
        if index == places[-1]:
            yield step, "" if len(places) == 1 else f"The last of {len(places)} measurements."


def print_step(console: Console, step: Step, history: History, note: str = "") -> None:
    """One paragraph: when and what, why, and the id by which `trace` finds it."""
    counted = step.outcome.accepted
    console.print(
        Text.assemble(
            (moment(step.event.recordedtime), "dim"),
            "  ",
            (title(step), "bold" if counted else "bold yellow"),
            ("" if counted else "  ignored", "yellow"),
            (f"  {step.event.id}", "dim"),
        ),
        soft_wrap=True,
    )
    body = Text()
    if not counted:
        body.append(f"This did not count: {step.outcome.reason}. It said:\n", "yellow")
    body.append(" ".join(part for part in (tell(step), note) if part), "" if counted else "dim")
    if cause := tell_cause(step, history):
        body.append(f"\n{cause}", "dim")
    console.print(Padding(body, (0, 0, 1, 2)))
