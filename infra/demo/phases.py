"""The phases between start and report: choose topics, normal traffic, moved traffic, learning, canary."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from typing import Final

from infra.demo.application import HelpSearch
from infra.demo.customers import Ask, Customers, visits
from infra.demo.dataset import Bank
from infra.demo.errors import DemoError
from infra.demo.evaluation import evaluate
from infra.demo.plan import Plan
from infra.demo.stack import Stack
from infra.demo.story import Step, Story, tell
from infra.demo.telling import Bar, Teller
from infra.demo.topics import Topics, choose_topics, sample_questions, supply_questions
from infra.demo.traffic import Meter, Traffic

BASE: Final = "1.0.0"
#: Names by which the time of each phase is reported; one that did not happen took none.
PHASES: Final = ("start", "choose", "baseline", "moved", "learn", "canary", "report")
_SEARCHABLE_S: Final = 120.0
_PAUSE_S: Final = 0.3
#: The canary's deadline is the learner's to keep; so long after it the demo gives up.
_CANARY_GRACE_S: Final = 60.0


class Phases:
    """One run's way through its phases; what they found stays in the attributes."""

    def __init__(self, plan: Plan, bank: Bank, stack: Stack, application: HelpSearch, teller: Teller) -> None:
        self._plan = plan
        self._bank = bank
        self._stack = stack
        self._application = application
        self._teller = teller
        self._customers = Customers(plan.control)
        self.story = Story(stack, self._on_step)
        self.meters: dict[str, Meter] = {}
        self.topics = Topics(frozenset(), frozenset(), frozenset())
        #: Why the run ended before a verdict; '' while it has not.
        self.ended = ""

    def _rng(self, purpose: str) -> random.Random:
        return random.Random(f"{self._plan.seed}/{purpose}")

    def _on_step(self, step: Step) -> None:
        if line := tell(step):
            self._teller.say(line)

    async def load(self, bar: Bar) -> None:
        """Store the documents and wait until they are found. Raises DemoError."""
        documents = self._bank.documents
        bar.show(0, f"loading {len(documents)} documents")
        await self._application.load(documents)
        deadline = time.monotonic() + _SEARCHABLE_S
        # One text of each part: a text finds itself first once it is in the index.
        for document in (documents[0], documents[len(documents) // 2], documents[-1]):
            while True:
                found = await self._application.search(document.text, "u-operator", {})
                if found.hits and found.hits[0].document_id == document.id:
                    break
                if time.monotonic() > deadline:
                    raise DemoError(
                        f"the documents are not found {_SEARCHABLE_S:.0f} s after they were loaded"
                    )
                await asyncio.sleep(_PAUSE_S)
        await self.story.look()
        if self.story.champion != BASE:
            raise DemoError(f"expected the base {BASE} to serve, got {self.story.champion}")

    async def choose(self) -> None:
        """Measure the base topic by topic on train questions, and choose where the traffic goes."""
        plan, bank = self._plan, self._bank
        with self._teller.phase(
            "choose",
            "Choose topics",
            f"the base is measured on {plan.probes_per_topic} train questions of each topic",
        ) as bar:
            bar.show(0, "ratchet evaluate")
            probes = sample_questions(bank, "train", plan.probes_per_topic, self._rng("probes"))
            evaluated = await evaluate(
                self._stack, bank, [BASE], probes, lambda question: question.topic, seed=plan.seed
            )
            quality = {
                score.slice: score.values["ndcg@10"].estimate or 0.0
                for score in evaluated.scores
                if score.slice in bank.topics
            }
            self.topics = choose_topics(quality, plan.moved_topics, plan.unseen_topics, self._rng("topics"))

            def mean(topics: frozenset[str]) -> float:
                return sum(quality[topic] for topic in topics) / len(topics)

            self._teller.say(
                f"nDCG@10 {mean(self.topics.moved):.2f} on the {len(self.topics.moved)} worst topics, "
                f"{mean(self.topics.unmoved):.2f} on the {len(self.topics.unmoved)} where it starts; "
                f"{len(self.topics.unseen)} are kept out of all traffic"
            )

    async def serve(self) -> None:
        """All traffic and what the learner makes of it, to the verdict or to the reason why there is none."""
        plan = self._plan
        supply = supply_questions(self._bank, self.topics, plan.canary_question_share, self._rng("supply"))
        each = plan.questions_per_customer
        normal = visits("baseline", supply.unmoved, each, self._rng("baseline"))
        await self._baseline(normal)
        if plan.control == "nodrift":
            await self._go_on(normal)
            return
        await self._move(visits("moved", supply.moved, each, self._rng("moved")))
        if not self.ended:
            await self._learn()
        if not self.ended and self.story.verdict is None:
            await self._canary(visits("canary", supply.canary, each, self._rng("canary")))

    async def _baseline(self, asks: Iterator[Ask]) -> None:
        limit = self._plan.baseline_queries
        with self._teller.phase(
            "baseline", "Normal traffic", f"{limit:,} questions about what is served well", limit
        ) as bar:
            await self._ask("baseline", asks, limit, bar)

    async def _go_on(self, asks: Iterator[Ask]) -> None:
        """Control `nodrift`: as much traffic again as would have moved, of the same kind."""
        limit = self._plan.moved_queries
        with self._teller.phase(
            "moved", "Traffic that does not move", f"{limit:,} more questions of the same kind", limit
        ) as bar:
            await self._ask(
                "moved", asks, limit, bar, enough=lambda: self.story.first("drift.detected") is not None
            )
            bar.show(limit, "waiting for the watch to see the last queries")
            alarmed = await self.story.until(
                lambda: self.story.first("drift.detected") is not None, 2 * self._plan.settle_s + 15.0
            )
        self.ended = (
            "a drift was reported though nothing moved" if alarmed else "nothing moved, nothing alarmed"
        )

    async def _move(self, asks: Iterator[Ask]) -> None:
        plan = self._plan

        def requested() -> bool:
            return self.story.first("training.requested") is not None

        with self._teller.phase(
            "moved",
            "The traffic moves",
            f"to the {plan.moved_topics} worst topics, at most {plan.moved_queries:,} questions",
            plan.moved_queries,
        ) as bar:
            await self._ask("moved", asks, plan.moved_queries, bar, enough=requested)
            bar.show(self.meters["moved"].queries, "waiting for the learner")
            if not await self.story.until(requested, plan.drift_timeout_s):
                seen = self.story.first("drift.detected") is not None
                self.ended = "no training was requested" if seen else "no drift was noticed"

    async def _learn(self) -> None:
        plan, story = self._plan, self.story
        with self._teller.phase(
            "learn", "Learning", f"freeze, {plan.trials} trials, judge; nobody asks anything now", plan.trials
        ) as bar:

            def over() -> bool:
                trials = sum(step.name == "trial.finished" for step in story.steps)
                bar.show(trials, f"trials; last step: {story.steps[-1].name}")
                return story.verdict is not None or story.first("rollout.started") is not None

            if not await story.until(over, plan.learn_timeout_s):
                self.ended = (
                    f"no verdict within {plan.learn_timeout_s:.0f} s: last step {story.steps[-1].name}"
                )

    async def _canary(self, asks: Iterator[Ask]) -> None:
        plan, story = self._plan, self.story

        def decided() -> bool:
            return story.verdict is not None

        with self._teller.phase(
            "canary",
            "Canary",
            "other customers, with questions that nobody asked before",
        ) as bar:
            await self._ask("canary", asks, plan.canary_queries, bar, enough=decided)
            if not await story.until(decided, plan.canary_deadline_s + _CANARY_GRACE_S):
                self.ended = "the canary came to no verdict"

    async def _ask(
        self,
        phase: str,
        asks: Iterator[Ask],
        limit: int,
        bar: Bar,
        *,
        enough: Callable[[], bool] = lambda: False,
    ) -> None:
        """Traffic of a phase, until `limit` or `enough`; meanwhile the story is read on."""
        meter = self.meters[phase] = Meter(lambda meter: bar.show(meter.queries, str(meter)))
        traffic = Traffic(
            self._application, self._bank, self._customers, self._plan.seed, self._plan.concurrency
        )
        reading = asyncio.create_task(self.story.until(enough, float("inf")))
        try:
            await traffic.run(asks, meter, limit=limit, enough=lambda: enough() or reading.done())
        finally:
            reading.cancel()
            await asyncio.wait([reading])
        if not reading.cancelled() and (error := reading.exception()) is not None:
            raise error
        self._teller.say(
            f"{meter.queries:,} queries, {meter.rate:.0f}/s; "
            f"{meter.clicked / max(1, meter.queries):.0%} with a click; {meter.thumbs:,} thumbs"
            + (f"; {meter.repeats:,} repeated questions" if meter.repeats else "")
        )
