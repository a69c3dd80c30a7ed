"""The result on a terminal, in 80 columns."""

from __future__ import annotations

from typing import Final

from rich.console import Console
from rich.table import Table

from infra.demo.figures import Value, shown, shown_difference
from infra.demo.report import ArmRates, Canary, Report

_WIDTH: Final = 80
_ORDER: Final = ("moved", "unmoved", "unseen", "all", "apart")


def print_result(report: Report, console: Console, where: str) -> None:
    """What the run showed, what it rests on, and where the rest stands."""
    console.print()
    after = report.after_version
    if report.promoted:
        console.print(f"[bold green]{after} was promoted[/]: {report.reason}", soft_wrap=True)
    else:
        console.print(f"[bold]Nothing was promoted[/]: {report.reason}", soft_wrap=True)
    console.print(_quality_table(report))
    canary = report.canary
    if canary.champion is not None and canary.challenger is not None:
        console.print(_canary_table(canary, canary.champion, canary.challenger))
    events = report.events
    console.print(
        f"events   {events.sent:,} sent ({events.sendings:,} sendings), "
        f"{events.acknowledged:,} acknowledged, {events.refused:,} refused", soft_wrap=True,
    )  # fmt: skip
    sign = "=" if events.adds_up else "≠"
    console.print(
        f"         {sign} {events.stored:,} stored + {events.rejected:,} rejected; "
        f"{events.total_stored:,} stored from all sources", soft_wrap=True,
    )  # fmt: skip
    shown = ("start", "choose", "baseline", "moved", "learn", "canary", "report", "total")
    seconds = [f"{name} {report.seconds[name]:.0f}" for name in shown if report.seconds.get(name) is not None]
    console.print(f"seconds  {', '.join(seconds)}", soft_wrap=True)
    console.print(f"memory   {report.peak_memory_bytes / 1e9:.2f} GB at most, all processes together")
    console.print(f"report   {where}", soft_wrap=True)


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=None, pad_edge=False, width=_WIDTH, title_style="bold"
    )
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    return table


def _quality_table(report: Report) -> Table:
    table = _table("nDCG@10 on test questions", "topics", "n", "before", "after", "difference [95 %]")
    # Slices first, then their parts without near train questions.
    for name in sorted(report.slices, key=lambda name: ("apart" in name, _ORDER.index(name.split(",")[0]))):
        part = report.slices[name]
        table.add_row(
            "all, no near train question"
            if name == "apart"
            else name.replace("apart", "no near train question"),
            f"{part.questions:,}",
            shown(part.versions[report.before_version]["ndcg@10"]),
            shown(part.versions.get(report.after_version or "", {}).get("ndcg@10")),
            shown_difference(part.difference.get("ndcg@10")),
        )
    return table


def _canary_table(canary: Canary, champion: ArmRates, challenger: ArmRates) -> Table:
    table = _table(
        f"canary: {champion.units:,} and {challenger.units:,} customers at the same time",
        "per query",
        "champion",
        "challenger",
        "difference [always valid]",
    )
    for measure in ("reciprocal_rank", "clicked", "thumbs_up", "thumbs_down"):
        arms = [shown(Value(value=getattr(arm, measure))) for arm in (champion, challenger)]
        table.add_row(measure, *arms, shown_difference(canary.difference.get(measure)))
    return table
