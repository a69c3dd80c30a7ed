"""`ratchet experiment`: A/B tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec
from msgspec import Struct
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.door import known_tenant, tenant_option
from api.cli.lifecycle import History, carry_out, read_history
from api.cli.project import Project
from api.cli.prose import figure
from api.cli.store import AnalystStore
from schemas import lifecycle as lc


@click.group()
def experiment() -> None:
    """A/B tests: units are randomised and counted, and results may be looked at every day."""


def parse_arm(text: str) -> lc.Arm:
    """`name=weight` or `name=weight:version`. Raises click.BadParameter."""
    name, found, rest = text.partition("=")
    weight, _, version = rest.partition(":")
    try:
        share = float(weight)
    except ValueError:
        share = -1.0
    if not name.strip() or not found or not 0 < share <= 1:
        raise click.BadParameter(
            f"expected NAME=WEIGHT or NAME=WEIGHT:VERSION with a weight above 0 and up to 1, got {text!r}"
        )
    return lc.Arm(name=name.strip(), weight=share, version=version.strip())


@experiment.command()
@click.argument("name")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    required=True,
    metavar="NAME=WEIGHT[:VERSION]",
    help="An arm, twice or more; the first is the control. Without VERSION its units get the champion.",
)
@click.option("--metric", "metrics", multiple=True, help="A measure, once or more. Default: clicked.")
@click.option("--alpha", default=0.05, show_default=True, help="Of each interval.")
@click.option("--minimum-units", default=100, show_default=True, help="An arm with fewer cannot say.")
@click.option("--coverage", default=1.0, show_default=True, help="Share of the units that take part.")
@tenant_option
@click.pass_obj
def define(
    project: Project,
    name: str,
    arms: Sequence[str],
    metrics: Sequence[str],
    alpha: float,
    minimum_units: int,
    coverage: float,
    tenant: str,
) -> None:
    """Fix an A/B test before it runs: arms, metrics, alpha. It cannot be changed afterwards."""
    payload = lc.ExperimentDefined(
        experiment=name,
        arms=tuple(parse_arm(arm) for arm in arms),
        metrics=tuple(metrics) or ("clicked",),
        alpha=alpha,
        minimum_units=minimum_units,
        coverage=coverage,
    )
    try:
        msgspec.convert(msgspec.to_builtins(payload), lc.ExperimentDefined)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"an experiment cannot be like this: {error}") from error

    def order(history: History) -> tuple[Struct, str]:
        _check_metrics(payload.metrics, history)
        return payload, ""

    carry_out(project.settings, known_tenant(project.settings, tenant), order)
    click.echo(f"experiment {name} is defined: `ratchet experiment start {name}`")


def _check_metrics(metrics: Sequence[str], history: History) -> None:
    from streams.measures import MEASURES

    known = [measure.name for measure in MEASURES] + list(history.state.metrics)
    for metric in metrics:
        if metric not in known:
            raise click.UsageError(f"no measure {metric!r}; there are: {', '.join(known)}")


@experiment.command()
@click.argument("name")
@tenant_option
@click.pass_obj
def start(project: Project, name: str, tenant: str) -> None:
    """Assign units from now on; `GET /v1/serving?unit=…` says which arm."""

    def order(history: History) -> tuple[Struct, str]:
        return lc.ExperimentStarted(experiment=name), _last_about(history, name, lc.ExperimentDefined)

    carry_out(project.settings, known_tenant(project.settings, tenant), order)
    click.echo(f"experiment {name} runs: `ratchet experiment results {name}`")


@experiment.command()
@click.argument("name")
@click.option("--reason", default="", help="Why.")
@tenant_option
@click.pass_obj
def stop(project: Project, name: str, reason: str, tenant: str) -> None:
    """Assign no unit any more; a stopped experiment does not start again."""

    def order(history: History) -> tuple[Struct, str]:
        payload = lc.ExperimentStopped(experiment=name, reason=reason)
        return payload, _last_about(history, name, lc.ExperimentStarted)

    carry_out(project.settings, known_tenant(project.settings, tenant), order)
    click.echo(f"experiment {name} is stopped")


def _last_about(history: History, name: str, kind: type[Struct]) -> str:
    """The id of the last step of this kind about this experiment that counted, or ''."""
    found = [
        step.event.id
        for step in history.steps
        if step.outcome.accepted
        and type(step.payload) is kind
        and getattr(step.payload, "experiment", "") == name
    ]
    return found[-1] if found else ""


@experiment.command("list")
@tenant_option
@click.pass_obj
def list_(project: Project, tenant: str) -> None:
    """The experiments that were defined."""
    state = read_history(project.settings, tenant).state
    console = Console(highlight=False)
    if not state.experiments:
        console.print("no experiment is defined: `ratchet experiment define NAME --arm a=.5 --arm b=.5`")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "state", "arms", "metrics"):
        table.add_column(column, overflow="fold")
    for name, one in state.experiments.items():
        standing = "running" if one.running else "stopped" if one.stopped else "defined"
        arms = ", ".join(
            f"{arm.name} {arm.weight:.0%}" + (f" on {arm.version}" if arm.version else "")
            for arm in one.defined.arms
        )
        table.add_row(Text(name), standing, Text(arms), ", ".join(one.defined.metrics))
    console.print(table)


@experiment.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="An object a row.")
@tenant_option
@click.pass_obj
def results(project: Project, name: str, as_json: bool, tenant: str) -> None:
    """What the learner measured last, by arm; NAME may be a canary's.

    One interval decides: the always-valid one, at every look. The others are right at one look only.
    """
    rows = AnalystStore(project.settings.clickhouse).rows(
        "SELECT * EXCEPT (latest, offsets) FROM experiment_results "
        "WHERE tenant = {tenant:String} AND experiment = {name:String} AND latest",
        tenant=tenant,
        name=name,
    )
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(row).decode())
        return
    console = Console(highlight=False)
    if not rows:
        console.print(
            Text(
                f"experiment {name} has not been measured yet: the learner measures running experiments "
                "(`ratchet status`); what there is before: "
                f"`ratchet sql \"SELECT arm, uniq(unit) FROM experiment_units WHERE experiment = '{name}' "
                'GROUP BY arm"`'
            )
        )
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("metric", "arm"):
        table.add_column(column)
    for column in ("units", "mean", "difference", "always-valid", "one look (Welch)"):
        table.add_column(column, justify="right")
    table.add_column("says")
    for row in rows:
        table.add_row(
            row["metric"],
            Text(row["arm"]),
            f"{row['units']:,}",
            figure(row["mean"]),
            "–" if row["difference"] is None else f"{row['difference']:+.4f}",
            _interval(row["always_low"], row["always_high"]),
            _interval(row["fixed_horizon_welch_low"], row["fixed_horizon_welch_high"]),
            _says(row),
        )
    console.print(table)
    first = rows[0]
    notes = [f"measured {first['measured_at'][:19]} UTC"]
    if first["excluded_units"]:
        notes.append(f"{first['excluded_units']:,} units seen in two arms are left out")
    if first["sample_ratio_p"] is not None and first["sample_ratio_p"] < 0.01:
        notes.append(f"the arms did not get their shares (p = {first['sample_ratio_p']:.2g}): trust nothing")
    console.print(f"[dim]{'; '.join(notes)}[/]")


def _interval(low: float | None, high: float | None) -> str:
    return "–" if low is None or high is None else f"[{low:+.4f}, {high:+.4f}]"


def _says(row: dict[str, Any]) -> str:
    low, high = row["always_low"], row["always_high"]
    if row["difference"] is None:
        return "" if row["always_low"] is None and row["alpha"] is None else "cannot say"
    if low is None or high is None:
        return "cannot say"
    return "higher" if low > 0 else "lower" if high < 0 else "cannot say yet"
