"""`ratchet doctor`."""

from __future__ import annotations

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.door import known_tenant, tenant_option
from api.cli.examination import Figures, examine
from api.cli.findings import Finding, find, training_needs
from api.cli.project import Project
from api.cli.store import AnalystStore
from learners.freeze.readiness import Need

_MARKS = {"problem": ("✗", "red"), "hint": ("·", "yellow"), "good": ("✓", "green")}


@click.command()
@tenant_option
@click.option("--json", "as_json", is_flag=True, help="For scripts.")
@click.pass_obj
def doctor(project: Project, tenant: str, as_json: bool) -> None:
    """What is missing before feedback can be learned from, and what to do about it.

    It looks at what has arrived: events by type and source, lists and their hits, units, feedback that waits,
    documents that nobody loaded, rejections, and what the next training needs.
    """
    from api.cli.lag import read_lag

    settings = project.settings
    figures = examine(AnalystStore(settings.clickhouse), known_tenant(settings, tenant), read_lag(settings))
    rules = project.settings.freeze
    findings, needs = find(figures, rules), training_needs(figures, rules)
    if as_json:
        body = {
            **msgspec.to_builtins(figures),
            "training_needs": [{**msgspec.to_builtins(need), "met": need.met} for need in needs],
            "findings": msgspec.to_builtins(findings),
        }
        click.echo(msgspec.json.format(msgspec.json.encode(body), indent=2).decode())
        return
    print_figures(Console(highlight=False), figures, needs)
    print_findings(Console(highlight=False), findings)


def print_figures(console: Console, figures: Figures, needs: tuple[Need, ...]) -> None:
    """What has arrived, and which of it can be learned from."""
    if figures.events:
        table = _table("event", "source", "last received", right="events")
        for row in figures.events:
            table.add_row(
                row.type.removeprefix("ratchet.").rpartition(".")[0],
                Text(row.source),
                row.last_received[:19],
                f"{row.events:,}",
            )
        console.print(table)
        console.print()
    q = figures.queries
    if q.total:
        table = _table("queries", "", right="")
        table.add_row("asked", "", f"{q.total:,}")
        for name, number in (
            ("with a result list", q.with_list),
            ("with hits", q.with_hits),
            ("with ranks", q.with_ranks),
            ("with scores", q.with_scores),
            ("with propensities", q.with_propensities),
            ("with the hash of the text shown", q.with_text_hashes),
            ("with the version that served", q.with_versions),
            ("with a unit", q.with_units),
            ("with feedback", q.with_feedback),
        ):
            table.add_row(f"  {name}", f"{number / q.total:.0%}", f"{number:,}")
        console.print(table)
        console.print()
    table = _table("learning", right="")
    table.add_row("documents", f"{figures.documents:,}")
    table.add_row("training pairs", f"{figures.pairs:,}")
    table.add_row("  positive", f"{figures.positive_pairs:,}")
    for need in needs:
        table.add_row(f"  {need.what}", f"{need.have:,.0f} of {need.needed:,.0f}")
    table.add_row("version that serves", figures.champion or "none")
    table.add_row(
        "events not in ClickHouse yet", "unknown" if figures.lag_events is None else f"{figures.lag_events:,}"
    )
    console.print(table)
    console.print()


def print_findings(console: Console, findings: list[Finding]) -> None:
    """A line for each finding, and what to do about it below."""
    for finding in findings:
        mark, colour = _MARKS[finding.level]
        table = Table.grid(padding=(0, 1))
        table.add_row(Text(mark, style=colour), Text(finding.what))
        if finding.todo:
            table.add_row("", Text(f"→ {finding.todo}", style="dim"))
        console.print(table)


def _table(*columns: str, right: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    table.add_column(right, justify="right")
    return table
