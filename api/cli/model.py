"""`ratchet model`: what versions there are, why, and a person's decisions about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from api.cli.door import known_tenant, tenant_option
from api.cli.lifecycle import History, Step, carry_out, read_history
from api.cli.project import Project
from api.cli.prose import figure, tell_measure
from api.cli.story import print_step
from schemas import lifecycle as lc
from schemas.tenant_state import LifecycleState, VersionState

_COLOURS = {
    "champion": "green",
    "canary": "cyan",
    "admitted": "cyan",
    "rejected": "red",
    "rolled_back": "red",
}


@click.group()
def model() -> None:
    """Versions of the whole retrieval pipeline."""


@model.command("list")
@tenant_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def list_(project: Project, tenant: str, as_json: bool) -> None:
    """Every version, and how far it came."""
    state = read_history(project.settings, tenant).state
    if as_json:
        rows = [_as_json(state, version) for version in state.versions.values()]
        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2).decode())
        return
    console = Console(highlight=False)
    if not state.versions:
        console.print(f"tenant {tenant} has no version yet: search proposes the base when it starts")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("version", "stage", "ready", "origin", "parent"):
        table.add_column(column)
    table.add_column("validation", justify="right")
    table.add_column("judge")
    for version in state.versions.values():
        table.add_row(
            version.version,
            f"[{_COLOURS.get(version.stage, '')}]{version.stage}[/]"
            if version.stage in _COLOURS
            else version.stage,
            "yes" if version.ready else "no",
            version.origin,
            version.parent,
            figure(version.validation),
            _verdict(version),
        )
    console.print(table)
    if state.rollout is not None:
        plan = state.rollout.started
        console.print(f"[dim]canary: {state.rollout.share:.0%} of the units get {plan.challenger}[/]")


def _verdict(version: VersionState) -> str:
    judged = version.judged
    if judged is None:
        return "–"
    difference = judged.measure.estimate
    return judged.verdict.replace("_", " ") + ("" if difference is None else f" {difference:+.4f}")


def _as_json(state: LifecycleState, version: VersionState) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.to_builtins(version)
    return row | {"champion": version.version == state.champion}


@model.command()
@click.argument("version")
@tenant_option
@click.pass_obj
def show(project: Project, version: str, tenant: str) -> None:
    """One version: where it comes from, what the judge said, what is in it."""
    state = read_history(project.settings, tenant).state
    known = _known(state, version)
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("version", known.version)
    table.add_row("stage", known.stage + (", ready to serve" if known.ready else ", not ready to serve"))
    table.add_row("origin", known.origin + (f", from {known.parent}" if known.parent else ""))
    if known.dataset_id:
        table.add_row("dataset", known.dataset_id)
    if known.validation is not None:
        table.add_row("validation", f"{figure(known.validation)} nDCG@10")
    if known.judged is not None:
        verdict = known.judged.verdict.replace("_", " ")
        table.add_row("judge", f"{verdict}: {known.judged.reason}. {tell_measure(known.judged.measure)}")
    table.add_row("manifest", known.manifest_hash)
    place = _directory(project, tenant, version)
    table.add_row("directory", str(place) if place.is_dir() else f"{place} (not on this machine)")
    table.add_row("proposed by", known.proposed_by)
    Console(highlight=False, markup=False, emoji=False).print(table)


@model.command()
@click.argument("version")
@tenant_option
@click.pass_obj
def why(project: Project, version: str, tenant: str) -> None:
    """The chain of events that made VERSION and brought it where it is, with their measures."""
    history = read_history(project.settings, tenant)
    _known(history.state, version)
    console = Console(highlight=False)
    for step in chain_of(history, version):
        print_step(console, step, history)


def chain_of(history: History, version: str) -> list[Step]:
    """The steps about a version and all that led to them, in the order of the log.

    Trials of its training are among them; measurements of its canary are not (the last look is).
    """
    wanted: set[str] = set()
    for step in history.steps:
        if step.outcome.accepted and _is_about(step.payload, version):
            wanted.update(cause.event.id for cause in history.causes(step.event.id))
    datasets = {
        step.payload.dataset_id
        for step in history.steps
        if isinstance(step.payload, lc.DatasetFrozen) and step.event.id in wanted
    }
    return [
        step
        for step in history.steps
        if step.outcome.accepted
        and (
            step.event.id in wanted
            or (isinstance(step.payload, lc.TrialFinished) and step.payload.dataset_id in datasets)
        )
    ]


def _is_about(payload: Struct, version: str) -> bool:
    match payload:
        case lc.RolloutStarted(challenger=challenger):
            return challenger == version
        case lc.VersionPromoted(previous=previous) if previous == version:
            return True
        case lc.VersionRolledBack(to=to) if to == version:
            return True
        case _:
            return getattr(payload, "version", None) == version


@model.command()
@click.argument("version")
@tenant_option
@click.option("--reason", required=True, help="Why a person decides here; it is kept for ever.")
@click.pass_obj
def promote(project: Project, version: str, tenant: str, reason: str) -> None:
    """Make VERSION the champion without waiting for a canary."""

    def order(history: History) -> tuple[Struct, str]:
        known = _known(history.state, version)
        payload = lc.VersionPromoted(
            version=version, previous=history.state.champion or "", by="person", reason=reason
        )
        return payload, known.judged_by or known.proposed_by

    history = carry_out(project.settings, known_tenant(project.settings, tenant), order)
    click.echo(f"{history.state.champion} is the champion of tenant {tenant}")


@model.command()
@tenant_option
@click.option(
    "--to", help="The version that serves instead. Default: the one before; the champion in a canary."
)
@click.option("--reason", required=True, help="Why; it is kept for ever.")
@click.pass_obj
def rollback(project: Project, tenant: str, to: str | None, reason: str) -> None:
    """Take out what came last: the challenger of a running canary, else the champion.

    With --to VERSION the champion is taken out, canary or not, and VERSION serves.
    """

    def order(history: History) -> tuple[Struct, str]:
        state = history.state
        if state.champion is None:
            raise click.ClickException("no version serves yet, so there is nothing to roll back")
        if state.rollout is not None and to in (None, state.champion):
            challenger = state.rollout.started.challenger
            payload = lc.VersionRolledBack(version=challenger, to=state.champion, reason=reason)
            return payload, state.rollout.id
        target = to or previous_champion(history)
        if target is None:
            raise click.ClickException(
                f"{state.champion} has nothing before it to fall back on: name a version with --to"
            )
        payload = lc.VersionRolledBack(version=state.champion, to=target, reason=reason)
        return payload, state.champion_by or ""

    history = carry_out(project.settings, known_tenant(project.settings, tenant), order)
    taken_out = history.steps[-1].payload
    out = taken_out.version if isinstance(taken_out, lc.VersionRolledBack) else "it"
    click.echo(f"{out} is taken out; {history.state.champion} serves tenant {tenant}")


def previous_champion(history: History) -> str | None:
    """Who was champion before the present one and was not rolled back; else the base, if it is another."""
    state = history.state
    champions: list[str] = []
    for step in history.steps:
        if not step.outcome.accepted:
            continue
        if isinstance(step.payload, lc.VersionPromoted):
            champions.append(step.payload.version)
        elif isinstance(step.payload, lc.VersionRolledBack) and champions[-1:] == [step.payload.version]:
            champions.append(step.payload.to)
    for version in reversed(champions):
        if version != state.champion and state.versions[version].stage != "rolled_back":
            return version
    return state.base if state.base != state.champion else None


@model.command()
@click.argument("version")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
@tenant_option
@click.pass_obj
def export(project: Project, version: str, directory: Path, tenant: str) -> None:
    """Copy VERSION to DIRECTORY, checked and complete.

    DIRECTORY/embedder opens with plain sentence-transformers.
    """
    _known(read_history(project.settings, tenant).state, version)
    source = _directory(project, tenant, version)
    if not source.is_dir():
        raise click.ClickException(
            f"version {version} is not on this machine: {source} is where learner and search keep it "
            "(setting artifacts.directory)"
        )
    try:
        from learners.pipeline.publish import export_version
    except ImportError as error:
        raise click.ClickException(
            f"exporting needs the extra `learn` ({error.name} is missing): install ratchet-platform[learn]"
        ) from error
    manifest = export_version(source, directory)
    size = sum(file.size_bytes for file in manifest.files)
    click.echo(f"{directory}: version {version}, {len(manifest.files)} files, {size / 1e6:,.1f} MB, checked")


def _directory(project: Project, tenant: str, version: str) -> Path:
    from learners.artifacts import Artifacts

    return Artifacts(project.data / project.settings.artifacts.directory).version(tenant, version)


def _known(state: LifecycleState, version: str) -> VersionState:
    if version not in state.versions:
        known = ", ".join(state.versions) or "none yet"
        raise click.ClickException(f"no version {version!r} was proposed; there are: {known}")
    return state.versions[version]
