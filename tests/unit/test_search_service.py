"""The search service over a real model: base, documents, reports, and the hot switch of versions."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from learners.artifacts import Artifacts
from learners.memory import MemoryLifecycleLog
from learners.pipeline.publish import derive_version
from learners.search.service import SearchRequest, SearchService
from learners.search.settings import SearchSettings
from schemas import lifecycle as lc
from schemas.codec import decode_payload, seal_event
from schemas.documents import DocumentRemoved, DocumentStored
from schemas.envelope import Event
from schemas.errors import Retryable
from schemas.interactions import QueryAsked, RetrievalServed
from schemas.serving import CHALLENGER_ARM, CHAMPION_ARM
from schemas.tenant_state import LifecycleState
from schemas.versions import FusionSettings

pytestmark = [pytest.mark.model, pytest.mark.timeout(180)]
TENANT = "acme"
TEXTS = {
    "card": "When will my card arrive",
    "pin": "How do I change my PIN",
    "rate": "What exchange rate do you use",
}


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def removal(document_id: str) -> tuple[Event, DocumentRemoved]:
    """A removal, one second from now."""
    payload = DocumentRemoved(document_id=document_id)
    moment = now() + dt.timedelta(seconds=1)
    return seal_event(payload, id="gone", source="t", tenant=TENANT, recordedtime=moment), payload


class MemorySink:
    """Keeps what was reported; `down` makes it refuse."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.down = False

    async def append(self, events: Sequence[Event]) -> None:
        if self.down:
            raise Retryable("the log does not answer")
        self.events += events


class Scene:
    """A service with its surroundings, maintained in the background."""

    def __init__(self, root: Path) -> None:
        self.artifacts = Artifacts(root)
        self.lifecycle = MemoryLifecycleLog()
        self.sink = MemorySink()
        self.service = SearchService(
            SearchSettings(exploration_rate=0.0),
            self.artifacts,
            self.lifecycle,
            self.current,
            self.sink,
            now=now,
            random_bytes=os.urandom,
        )

    def current(self, tenant: str) -> LifecycleState:
        state = LifecycleState()
        if tenant in self.lifecycle.tenants():
            coroutine = self.lifecycle.state(tenant)
            try:
                coroutine.send(None)
            except StopIteration as done:
                state = done.value
        return state

    def document(self, document_id: str, text: str | None, second: int = 0) -> None:
        payload = (
            DocumentRemoved(document_id=document_id)
            if text is None
            else DocumentStored(document_id=document_id, text=text)
        )
        moment = now() + dt.timedelta(seconds=second)
        event = seal_event(
            payload, id=f"{document_id}-{second}", source="t", tenant=TENANT, recordedtime=moment
        )
        self.service.take_document(event)

    async def step(self, payload: msgspec.Struct, id: str, cause: str | None = None) -> None:
        event = seal_event(payload, id=id, source="t", tenant=TENANT, recordedtime=now(), causationid=cause)
        outcome = await self.lifecycle.append(event)
        assert outcome.accepted, outcome.reason
        self.service.wake()

    async def until(self, what: str, happens: object) -> None:
        async with asyncio.timeout(60):
            while not happens():  # type: ignore[operator]
                await asyncio.sleep(0.02)

    async def hits(self, text: str, **request: str) -> list[str]:
        answer = await self.service.search(TENANT, SearchRequest(text=text, **request))  # type: ignore[arg-type]
        return [hit.document_id for hit in answer.hits]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    """A service whose base is being made, with three documents."""
    made = Scene(tmp_path)
    for document_id, text in TEXTS.items():
        made.document(document_id, text)
    maintaining = asyncio.create_task(made.service.maintain((TENANT,), lambda: None))
    yield made
    maintaining.cancel()
    await asyncio.gather(maintaining, return_exceptions=True)
    made.service.close()


async def test_a_tenants_life_from_the_base_to_a_promoted_version(scene: Scene) -> None:
    if not scene.service.ready(TENANT):
        with pytest.raises(Retryable, match="no version is loaded"):
            await scene.hits("early")
    await scene.until("the base", lambda: scene.service.ready(TENANT))
    assert scene.current(TENANT).champion == "1.0.0"

    # every search is reported: the query, and the list as it was shown
    answer = await scene.service.search(TENANT, SearchRequest(text="my card did not come", user="anna", k=2))
    assert answer.hits[0].document_id == "card"
    asked, served = (decode_payload(event) for event in scene.sink.events)
    assert isinstance(asked, QueryAsked)
    assert isinstance(served, RetrievalServed)
    assert (asked.query_id, asked.user, served.pipeline_version) == (answer.query_id, "anna", "1.0.0")
    assert [(hit.document_id, hit.rank, hit.propensity) for hit in served.hits] == [
        (hit.document_id, hit.rank, 1.0) for hit in answer.hits
    ]

    # a removed document is neither shown nor reported as shown, though the index still lists it
    scene.service.tenant(TENANT).corpus.apply(*removal("card"))
    answer = await scene.service.search(TENANT, SearchRequest(text="my card did not come"))
    served = decode_payload(scene.sink.events[-1])
    assert isinstance(served, RetrievalServed)
    assert [hit.document_id for hit in served.hits] == [hit.document_id for hit in answer.hits]
    assert "card" not in [hit.document_id for hit in answer.hits]
    assert [hit.rank for hit in answer.hits] == [1, 2]
    scene.document("card", TEXTS["card"], second=2)

    # documents come, change and go while it serves
    scene.document("loan", "How do I apply for a loan")
    scene.document("pin", None, second=1)
    await scene.until(
        "the new corpus", lambda: scene.service.tenant(TENANT).versions["1.0.0"].generation >= 7
    )
    assert (await scene.hits("apply for a loan"))[0] == "loan"
    assert "pin" not in await scene.hits("change my PIN")

    # a report that is not durable is no answer
    scene.sink.down = True
    with pytest.raises(Retryable, match="does not answer"):
        await scene.hits("anything")
    scene.sink.down = False

    # an admitted version is prepared in the background and said to be ready; a canary splits the units
    base = scene.artifacts.version(TENANT, "1.0.0")
    manifest = derive_version(
        scene.artifacts.version(TENANT, "1.1.0"),
        parent=base,
        version="1.1.0",
        cause="search",
        settings=msgspec.structs.replace(
            scene.service.tenant(TENANT).versions["1.0.0"].pipeline.settings,
            fusion=FusionSettings(method="convex", dense_weight=0.0),
        ),
    )
    assert manifest.parent == "1.0.0"
    await scene.step(lc.VersionProposed(version="1.1.0", manifest_hash="m", origin="imported"), "p1")
    judged = lc.VersionJudged(
        version="1.1.0",
        champion="1.0.0",
        verdict="admitted",
        reason="t",
        measure=lc.Measure(metric="ndcg@10"),
        margin=0.0,
    )
    await scene.step(judged, "j1", "p1")
    await scene.until("1.1.0 ready", lambda: scene.current(TENANT).versions["1.1.0"].ready)
    rollout = lc.RolloutStarted(
        rollout="canary-1",
        challenger="1.1.0",
        champion="1.0.0",
        share=0.5,
        metric="clicked",
        started_at=now(),
        deadline=now() + dt.timedelta(hours=1),
    )
    await scene.step(rollout, "o1", "j1")
    arms: dict[str, set[str]] = {}
    for number in range(30):
        answer = await scene.service.search(TENANT, SearchRequest(text="card", user=f"u{number}"))
        (exposure,) = answer.exposures
        arms.setdefault(exposure.arm, set()).add(answer.version)
    assert arms == {CHAMPION_ARM: {"1.0.0"}, CHALLENGER_ARM: {"1.1.0"}}
    unexposed = await scene.service.search(TENANT, SearchRequest(text="card"))
    assert (unexposed.version, unexposed.exposures) == ("1.0.0", ())
    # where the challenger is not loaded (a replica that just started) nobody is exposed, alike in both arms
    versions = scene.service.tenant(TENANT).versions
    challenger = versions.pop("1.1.0")
    for number in range(30):
        answer = await scene.service.search(TENANT, SearchRequest(text="card", user=f"u{number}"))
        assert (answer.version, answer.exposures) == ("1.0.0", ())
    versions["1.1.0"] = challenger

    # promoted: everybody gets it; the former champion is let go
    await scene.step(lc.VersionPromoted(version="1.1.0", previous="1.0.0", reason="won"), "c1", "o1")
    await scene.until("1.0.0 gone", lambda: set(scene.service.tenant(TENANT).versions) == {"1.1.0"})
    assert (await scene.service.search(TENANT, SearchRequest(text="card", user="u1"))).version == "1.1.0"

    # rolled back: until the former champion is loaded again, the one that is there answers, and says so
    await scene.step(lc.VersionRolledBack(version="1.1.0", to="1.0.0", reason="worse"), "b1", "c1")
    assert scene.service.ready(TENANT)
    answer = await scene.service.search(TENANT, SearchRequest(text="card", user="u1"))
    assert (answer.version, answer.exposures) == ("1.1.0", ())
    await scene.until("1.0.0 back", lambda: set(scene.service.tenant(TENANT).versions) == {"1.0.0"})
    assert (await scene.service.search(TENANT, SearchRequest(text="card", user="u1"))).version == "1.0.0"


async def test_exploration_shows_lower_ranks_and_says_how_likely_that_was(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    scene.service = SearchService(
        SearchSettings(exploration_rate=1.0),
        scene.artifacts,
        scene.lifecycle,
        scene.current,
        scene.sink,
        now=now,
        random_bytes=os.urandom,
    )
    for number in range(15):
        scene.document(f"d{number}", f"question number {number} about cards")
    maintaining = asyncio.create_task(scene.service.maintain((TENANT,), lambda: None))
    try:
        await scene.until("the base", lambda: scene.service.ready(TENANT))
        first = await scene.service.search(TENANT, SearchRequest(text="cards", query_id="q1", k=5))
        again = await scene.service.search(TENANT, SearchRequest(text="cards", query_id="q1", k=5))
        assert first.exploration
        assert [hit.document_id for hit in first.hits] == [hit.document_id for hit in again.hits]
        explored = [hit.propensity for hit in first.hits if hit.propensity < 0.5]
        assert explored == [pytest.approx(1 / (5 * 10))]
        plain = await scene.service.search(TENANT, SearchRequest(text="cards", k=5, explore=False))
        assert {hit.propensity for hit in plain.hits} == {1.0}
    finally:
        maintaining.cancel()
        await asyncio.gather(maintaining, return_exceptions=True)
        scene.service.close()
