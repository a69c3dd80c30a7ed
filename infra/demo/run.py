"""One run: start, phases, report, stop."""

from __future__ import annotations

import contextlib
import os
import time

from ratchet_client import AsyncRatchet, ClientError

from infra.demo import measuring
from infra.demo.application import SOURCE, HelpSearch
from infra.demo.dataset import Bank, load_bank
from infra.demo.errors import DemoError
from infra.demo.memory import MemoryWatch
from infra.demo.phases import BASE, PHASES, Phases
from infra.demo.place import Place
from infra.demo.plan import Plan, stack_settings
from infra.demo.record import Record
from infra.demo.report import Report, links_of, quality_of, slices_of, write_report
from infra.demo.stack import Stack
from infra.demo.story import Story
from infra.demo.telling import Teller


async def run_demo(plan: Plan, place: Place, teller: Teller) -> Report:
    """Run it all, write the report and return it; the stack is stopped in any case. Raises DemoError.

    The caller has taken `place`.
    """
    began = time.monotonic()
    load_at_start = os.getloadavg()[0]
    bank = load_bank(plan.seed)
    if place.project.exists():
        place.check_ours()
        await Stack(place.project).call("down")  # what a killed run left
    place.make_project(stack_settings(plan))
    with MemoryWatch() as memory, Record(place.record) as record:
        async with contextlib.AsyncExitStack() as opened:
            scene = await _start(plan, place, teller, bank, memory, record, opened)
            try:
                report = await _play(plan, bank, scene, teller, record)
            except ClientError as error:
                raise DemoError(f"a request of the application failed: {error}") from error
            teller.say("stopping everything", style="dim")
    seconds = {
        "install": measuring.install_seconds(),
        **{name: teller.seconds.get(name) for name in PHASES},
        "total": time.monotonic() - began,
    }
    report = report.completed(
        seconds=seconds,
        peak_memory_bytes=memory.peak_bytes,
        memory_at_peak_bytes=memory.at_peak,
        machine=measuring.describe_machine(load_at_start),
    )
    write_report(report, place.report)
    return report


class _Scene:
    """What a run plays with, once the stack is up."""

    def __init__(self, stack: Stack, application: HelpSearch, phases: Phases) -> None:
        self.stack = stack
        self.application = application
        self.phases = phases


async def _start(
    plan: Plan,
    place: Place,
    teller: Teller,
    bank: Bank,
    memory: MemoryWatch,
    record: Record,
    opened: contextlib.AsyncExitStack,
) -> _Scene:
    """The stack with its documents; whatever was opened is closed by `opened`."""
    ready = 0
    with teller.phase("start", "Start", "broker, store, worker, doors, search, learner, alerts", 7) as bar:

        def on_line(line: str) -> None:
            nonlocal ready
            ready += line.endswith(" running")
            bar.show(ready, " ".join(line.split()[1:]))

        stack = Stack(place.project)
        status = await opened.enter_async_context(stack.running(on_line))
        memory.follow(process.pid for process in status.processes if process.pid is not None)
        client = AsyncRatchet(
            status.api.url, status.api.key, search_url=status.search.url, source=SOURCE, timeout_s=30.0
        )
        application = HelpSearch(await opened.enter_async_context(client), record)
        phases = Phases(plan, bank, stack, application, teller)
        try:
            await phases.load(bar)
        except ClientError as error:
            raise DemoError(f"the documents could not be loaded: {error}") from error
    return _Scene(stack, application, phases)


async def _play(plan: Plan, bank: Bank, scene: _Scene, teller: Teller, record: Record) -> Report:
    phases, story, stack = scene.phases, scene.phases.story, scene.stack
    await phases.choose()
    await phases.serve()
    challenger = challenger_of(story)
    with teller.phase(
        "report", "Report", "test questions that were never traffic; every event counted"
    ) as bar:
        bar.show(0, "counting events")
        events = await measuring.count_events(stack, scene.application, record)
        canary = await measuring.canary_of(stack, story)
        bar.show(0, "ratchet evaluate on the test questions")
        evaluated = await measuring.evaluate_on_tests(stack, bank, phases.topics, challenger, plan)
        await story.look()
    verdict, judged = story.verdict, story.last("version.judged")
    return Report(
        seed=plan.seed,
        control=plan.control,
        promoted=verdict is not None and verdict.name == "version.promoted",
        alarmed=story.first("drift.detected") is not None,
        reason=phases.ended or (str(verdict.data.get("reason", "")) if verdict is not None else ""),
        before_version=BASE,
        after_version=challenger,
        quality=quality_of(evaluated, BASE, challenger),
        canary=canary,
        events=events,
        chain=links_of(story.chain),
        slices=slices_of(evaluated),
        traffic={name: meter.summary() for name, meter in phases.meters.items()},
        topics={
            "moved": len(phases.topics.moved),
            "unmoved": len(phases.topics.unmoved),
            "unseen": len(phases.topics.unseen),
        },
        trials=[step.data for step in story.steps if step.name == "trial.finished"],
        judged=judged.data if judged is not None else None,
    )


def challenger_of(story: Story) -> str | None:
    """The promoted version, else the best that was judged; None if nothing was."""
    verdict = story.verdict
    if verdict is not None and verdict.name == "version.promoted":
        promoted: str = verdict.data["version"]
        return promoted
    judged = [step.data for step in story.steps if step.name == "version.judged"]
    best = max(judged, key=lambda data: data["measure"].get("estimate") or 0.0, default=None)
    return None if best is None else str(best["version"])
