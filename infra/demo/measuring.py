"""What the report counts at the end: quality on test questions, the canary's arms, and every event."""

from __future__ import annotations

import asyncio
import os
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any, Final

from infra.demo.application import SOURCE, HelpSearch
from infra.demo.dataset import Bank
from infra.demo.evaluation import Evaluated, evaluate
from infra.demo.figures import Value
from infra.demo.phases import BASE
from infra.demo.plan import Plan
from infra.demo.record import Counts, Record
from infra.demo.report import ARM_MEASURES, Canary, Events, arm_of
from infra.demo.stack import Stack
from infra.demo.story import Story
from infra.demo.topics import Topics, sample_questions

_VISIBLE_S: Final = 60.0
_PAUSE_S: Final = 0.3

_STORED: Final = (
    "SELECT (SELECT count() FROM events WHERE {where}) + (SELECT count() FROM documents WHERE {where}) AS n"
)
_REJECTED: Final = "SELECT uniqExact(event_source, event_id) AS n FROM rejected WHERE {where}"


async def evaluate_on_tests(
    stack: Stack, bank: Bank, topics: Topics, challenger: str | None, plan: Plan
) -> Evaluated:
    """Base and challenger on the test questions, by slice. Raises DemoError."""
    return await evaluate(
        stack,
        bank,
        [BASE] if challenger is None else [BASE, challenger],
        sample_questions(bank, "test", plan.tested_per_topic, random.Random(f"{plan.seed}/tests")),
        lambda question: topics.slice_of(question.topic),
        seed=plan.seed,
        apart_from=bank.split("train") if plan.apart_from_train else (),
    )


async def count_events(stack: Stack, application: HelpSearch, record: Record) -> Events:
    """The record beside the store, once the store has caught up or the wait is over. Raises DemoError."""
    await application.confirm()
    counts: Counts = record.counts
    ours, theirs = f"source = '{SOURCE}'", f"event_source = '{SOURCE}'"
    deadline = time.monotonic() + _VISIBLE_S
    while True:
        stored = await stack.count(_STORED.format(where=ours))
        rejected = await stack.count(_REJECTED.format(where=theirs))
        if (stored, rejected) == (counts.acknowledged, counts.refused) or time.monotonic() > deadline:
            break
        await asyncio.sleep(_PAUSE_S)
    return Events(
        sent=counts.sent,
        acknowledged=counts.acknowledged,
        refused=counts.refused,
        stored=stored,
        rejected=rejected,
        unconfirmed=counts.unconfirmed,
        sendings=counts.sendings,
        total_stored=await stack.count(_STORED.format(where="1")),
        total_rejected=await stack.count(_REJECTED.format(where="1")),
    )


async def canary_of(stack: Stack, story: Story) -> Canary:
    """Rates of both arms over the same time, and their differences as the learner measured them."""
    rollout = story.last("rollout.started")
    if rollout is None:
        return Canary()
    experiment: str = rollout.data["rollout"]
    names = ", ".join(f"'{name}'" for name in ("queries", *ARM_MEASURES))
    rows = await stack.rows(
        "SELECT arm, measure, uniqExact(unit) AS units, sum(queries) AS queries, sum(value) AS total "
        f"FROM experiment_units WHERE tenant = 'default' AND experiment = '{experiment}' AND NOT excluded "
        f"AND measure IN ({names}) GROUP BY arm, measure"
    )
    measured = next(
        (
            step.data
            for step in reversed(story.steps)
            if step.name == "experiment.measured" and step.data["experiment"] == experiment
        ),
        {},
    )
    difference = {
        result["metric"]: _always(result["always"])
        for result in measured.get("results", ())
        if result.get("always")
    }
    return Canary(
        champion=arm_of(rows, "champion"),
        challenger=arm_of(rows, "challenger"),
        difference=difference,
        decided_by=rollout.data["metric"],
        experiment=experiment,
        excluded_units=measured.get("excluded_units", 0),
    )


def _always(measure: dict[str, Any]) -> Value:
    alpha = measure.get("alpha")
    kind = f"{1 - alpha:.4g} always valid, by {measure.get('resampled', 'unit')}" if alpha else ""
    return Value(
        value=measure.get("estimate"),
        low=measure.get("low"),
        high=measure.get("high"),
        interval_from=kind or str(measure.get("note", "")),
    )


def install_seconds() -> float | None:
    """What the installation of this environment took, if it was noted."""
    try:
        return float((Path(sys.prefix) / ".installed").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def describe_machine(load_at_start: float) -> dict[str, Any]:
    """Where it ran, and how busy that was."""
    return {
        "cpus": os.cpu_count(),
        "processor": platform.machine(),
        "python": platform.python_version(),
        "load_at_start": round(load_at_start, 2),
        "load_at_end": round(os.getloadavg()[0], 2),
    }
