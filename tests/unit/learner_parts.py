"""A learner's real parts on a lifecycle in memory, for tests of the daemon."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from learners.artifacts import Artifacts
from learners.daemon.journal import Journal
from learners.daemon.training import TrainingSteps
from learners.freeze.settings import FreezeSettings
from learners.memory import MemoryLifecycleLog
from learners.pipeline.manifest import describe_file
from learners.ports import CurrentDocument, ObservedQuery, Offsets
from learners.settings import LearnerSettings
from learners.steps import Step, next_step
from learners.watch.two_sample import WindowTest
from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.errors import Retryable
from schemas.lifecycle_state import Outcome
from schemas.tenant_state import LifecycleState
from schemas.versions import (
    EMBEDDER_FOLDER,
    MANIFEST_NAME,
    EmbedderSettings,
    PipelineManifest,
    PipelineSettings,
    encode_manifest,
)
from tests.lifecycle_events import START, whole_story
from tests.unit.watch_streams import ks_p_values, stream

#: The log's end, as the learner reads it before it freezes.
OFFSETS: Offsets = {"interactions": {"0": 7}, "documents": {"0": 3}}


class Clock:
    """A time that a test sets; it stands still by itself."""

    def __init__(self) -> None:
        self.time = START + dt.timedelta(days=1)

    def __call__(self) -> dt.datetime:
        return self.time

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.time += dt.timedelta(seconds=seconds)


class Queries:
    """A `QueryFeed` over lists. `asked` counts the pages that were asked for by tenant, `given` the queries.

    It cannot be read for the tenants in `broken`.
    """

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.of: dict[str, list[ObservedQuery]] = {}
        self.asked: dict[str, int] = {}
        self.given = 0

    async def after(
        self, tenant: str, cursor: tuple[dt.datetime, str] | None, until: dt.datetime, limit: int
    ) -> Sequence[ObservedQuery]:
        """As the port says."""
        self.asked[tenant] = self.asked.get(tenant, 0) + 1
        await asyncio.sleep(0)
        if tenant in self.broken:
            raise Retryable("the store is away", retry_after_s=60)
        behind = cursor or (START, "")
        queries = self.of.get(tenant, [])
        found = [q for q in queries if (q.received_at, q.query_id) > behind and q.received_at <= until]
        self.given += len(found[:limit])
        return found[:limit]

    async def count_since(self, tenant: str, since: dt.datetime, until: dt.datetime) -> int:
        """As the port says."""
        return sum(since < q.received_at <= until for q in self.of.get(tenant, []))


async def two_sample(question: WindowTest) -> dict[str, float]:
    """The two-sample tests, in this process."""
    return ks_p_values(question)


class Lifecycle(MemoryLifecycleLog):
    """A lifecycle in memory; payloads and steps of `acme` in one call each."""

    async def tell(self, events: Sequence[Event]) -> int:
        """Append all, each of which must be accepted; how many records there are then."""
        for event in events:
            outcome = await self.append(event)
            assert outcome.accepted, outcome
        return len(self.records)

    async def now(self) -> LifecycleState:
        """The state of `acme`."""
        return await self.state("acme")

    async def due(self, trials: int = 2) -> Step:
        """The step that is due for `acme`."""
        return next_step(await self.now(), trials=trials)

    def payloads(self, first: int = 0) -> list[msgspec.Struct]:
        """What the events from `first` on say."""
        return [decode_payload(event) for event in self.events()[first:]]

    def types(self, first: int = 0) -> list[str]:
        """Types of the events from `first` on, without prefix and version."""
        return [event.type.removeprefix("ratchet.").removesuffix(".v1") for event in self.events()[first:]]


class Held(Lifecycle):
    """A lifecycle that reads a step back only when a test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.holding = False
        self.held: list[Event] = []
        self.release = asyncio.Event()

    async def append(self, event: Event) -> Outcome:
        """As the port says."""
        if self.holding:
            self.held.append(event)
            await self.release.wait()
        return await super().append(event)


async def lifecycle_up_to(count: int, tenant: str = "acme") -> Lifecycle:
    """A lifecycle with the first `count` events of the whole story."""
    lifecycle = Lifecycle()
    await lifecycle.tell(whole_story(tenant)[:count])
    return lifecycle


def training_steps(
    root: Path,
    journal: Journal,
    settings: LearnerSettings | None = None,
    *,
    episodes: Sequence[Episode] = (),
    documents: Sequence[CurrentDocument] = (),
    freezing: FreezeSettings | None = None,
) -> TrainingSteps:
    """The real steps over artifacts in `root` and a log that holds these episodes and documents."""

    async def fold_episodes(tenant: str, offsets: Offsets) -> AsyncIterator[Episode]:
        assert offsets == OFFSETS
        for episode in episodes:
            yield episode

    async def fold_documents(tenant: str, offsets: Offsets) -> Sequence[CurrentDocument]:
        assert offsets == OFFSETS
        return documents

    async def ends(topics: Sequence[str]) -> Offsets:
        return {topic: OFFSETS[topic] for topic in topics}

    return TrainingSteps(
        settings or LearnerSettings(),
        freezing or FreezeSettings(),
        Artifacts(root),
        root / "log",
        journal,
        fold_episodes,
        fold_documents,
        ends,
    )


def write_bare_version(directory: Path) -> None:
    """A sound version without weights: it can be verified and derived from, but finds nothing."""
    (directory / EMBEDDER_FOLDER).mkdir(parents=True)
    (directory / EMBEDDER_FOLDER / "modules.json").write_text("[]")
    manifest = PipelineManifest(
        version=directory.name,
        cause="base_model",
        settings=PipelineSettings(embedder=EmbedderSettings(source="none", dimension=3)),
        files=(describe_file(directory, f"{EMBEDDER_FOLDER}/modules.json"),),
    )
    (directory / MANIFEST_NAME).write_bytes(encode_manifest(manifest))


def asked_from(begin: dt.datetime, queries: Sequence[ObservedQuery]) -> list[ObservedQuery]:
    """The same queries, received a second apart, the first a second after `begin`."""
    return [
        msgspec.structs.replace(query, received_at=begin + dt.timedelta(seconds=number))
        for number, query in enumerate(queries, start=1)
    ]


def fallen_clicks() -> list[ObservedQuery]:
    """1,100 queries since the story's champion began to serve; users click on nine in ten lists, and on one
    in ten from the 701st on.
    """
    rng = np.random.default_rng(5)
    before = stream(rng, 700, click_rate=0.9, top_score=0.75)
    return asked_from(START, [*before, *stream(rng, 400, click_rate=0.1, top_score=0.75, start=700)])
