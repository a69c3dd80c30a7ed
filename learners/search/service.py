"""The search service: who asks, which version answers, what is shown, and the events that say so."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
import random
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Final, TypeVar

from msgspec import Meta, Struct

from learners.artifacts import Artifacts
from learners.pipeline.embedder import EmbedderPool, limit_cpu_threads
from learners.pipeline.explore import explore
from learners.pipeline.index import Hit as FoundHit
from learners.pipeline.manifest import VersionDamaged
from learners.ports import EventSink, LifecycleLog
from learners.search.base import propose_base
from learners.search.served import ServedTenant, ServedVersion
from learners.search.settings import SearchSettings
from schemas.codec import decode_payload, seal_event
from schemas.envelope import Event
from schemas.errors import Retryable
from schemas.ids import step_id, uuid7
from schemas.interactions import Attribute, Exposure, Hit, QueryAsked, RetrievalServed
from schemas.lifecycle import VersionReady
from schemas.serving import Serving, assign
from schemas.tenant_state import LifecycleState

log = logging.getLogger(__name__)

_T = TypeVar("_T")
SOURCE: Final = "ratchet/search"
Clock = Callable[[], dt.datetime]


class SearchRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of `POST /v1/search`."""

    text: Annotated[str, Meta(min_length=1, max_length=8192, description="What is asked.")]
    k: Annotated[int, Meta(ge=1, description="How many hits.")] = 10
    query_id: Annotated[str, Meta(min_length=1, max_length=256)] | None = None
    user: Annotated[str, Meta(max_length=256)] | None = None
    session: Annotated[str, Meta(max_length=256)] | None = None
    device: Annotated[str, Meta(max_length=256)] | None = None
    attributes: dict[str, Attribute] = {}
    explore: Annotated[bool, Meta(description="False: show the pipeline's own order.")] = True


class FoundDocument(Struct, frozen=True, kw_only=True):
    """One hit as the application shows it."""

    rank: int
    document_id: str
    title: str
    text: str
    fields: dict[str, Attribute]
    score: float
    propensity: float


class SearchAnswer(Struct, frozen=True, kw_only=True):
    """The answer of `POST /v1/search`. Name `query_id` and `retrieval_id` when you report feedback."""

    query_id: str
    retrieval_id: str
    version: str
    exposures: tuple[Exposure, ...]
    exploration: bool
    latency_ms: float
    hits: tuple[FoundDocument, ...]


class SearchService:
    """Answers searches from memory and keeps what it serves in step with documents and lifecycle.

    A search is answered after its query and its list are durable in the log. `maintain` must run; searches
    before a version is loaded raise Retryable. `others_say_ready`: tenants whose application has its own
    index and says itself which version can serve.
    """

    def __init__(
        self,
        settings: SearchSettings,
        artifacts: Artifacts,
        lifecycle: LifecycleLog,
        current: Callable[[str], LifecycleState],
        sink: EventSink,
        *,
        others_say_ready: Collection[str] = (),
        now: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._settings = settings
        self._artifacts = artifacts
        self._lifecycle = lifecycle
        self._current = current
        self._sink = sink
        self._others_say_ready = others_say_ready
        self._now = now
        self._random_bytes = random_bytes
        self._tenants: dict[str, ServedTenant] = {}
        self._pool = EmbedderPool()
        self._searching = ThreadPoolExecutor(settings.threads, "search")
        self._preparing = ThreadPoolExecutor(1, "prepare")
        self._dirty = asyncio.Event()

    def tenant(self, name: str) -> ServedTenant:
        """What is held of a tenant; empty at first."""
        if name not in self._tenants:
            self._tenants[name] = ServedTenant(self._artifacts.vectors(name))
        return self._tenants[name]

    def take_document(self, event: Event) -> None:
        """A document event, in the order of the log. Raises Rejectable."""
        self.tenant(event.tenant).corpus.apply(event, decode_payload(event))
        self._dirty.set()

    def wake(self) -> None:
        """The lifecycle changed: look at what should be served."""
        self._dirty.set()

    def ready(self, tenant: str) -> bool:
        """A champion is loaded: the present one, or the one before while the present one is being loaded."""
        return self._current(tenant).champion is not None and bool(self.tenant(tenant).versions)

    async def search(self, tenant: str, request: SearchRequest) -> SearchAnswer:
        """Answer and report. Raises Retryable: nothing is loaded yet, or the report is late."""
        started = self._now()
        state = self._current(tenant)
        held = self.tenant(tenant)
        unit = request.user or request.session or request.device
        serving = assign(state, unit)
        if any(name not in held.versions for name in serving.prepare if state.versions[name].ready):
            # Not every arm can be served here yet: nobody is exposed, alike in all arms.
            serving = Serving(version=state.champion)
        served = held.versions.get(serving.version or "") or held.versions.get(held.last_champion)
        if served is None:
            raise Retryable(
                "no version is loaded yet; search answers as soon as the base is ready", retry_after_s=2.0
            )
        query_id = request.query_id or uuid7(_unix_ms(started), self._random_bytes(10))
        retrieval_id = uuid7(_unix_ms(started), self._random_bytes(10))
        k = min(request.k, self._settings.max_hits)
        ranked = await asyncio.get_running_loop().run_in_executor(
            self._searching, self._rank, served, request.text, k
        )
        rng = random.Random(f"{self._settings.exploration_salt}/{tenant}/{query_id}")
        shown = explore(
            _standing(held, ranked),
            rng,
            rate=self._settings.exploration_rate if request.explore else 0.0,
            shown=k,
            pool_end=max(k, self._settings.exploration_pool_end),
        )
        latency_ms = (self._now() - started).total_seconds() * 1000
        asked = QueryAsked(
            query_id=query_id,
            text=request.text,
            user=request.user,
            session=request.session,
            device=request.device,
            attributes=request.attributes,
            exposures=serving.exposures,
        )
        retrieval = RetrievalServed(
            query_id=query_id,
            retrieval_id=retrieval_id,
            pipeline_version=served.pipeline.version,
            hits=tuple(
                Hit(
                    document_id=item.hit.document_id,
                    rank=item.rank,
                    text_hash=item.hit.text_hash,
                    score=item.hit.score,
                    propensity=item.propensity,
                )
                for item in shown.hits
            ),
            exploration=shown.explored,
            latency_ms=round(latency_ms, 3),
        )
        await self._sink.append(
            [
                seal_event(
                    p, id=i, source=SOURCE, tenant=tenant, recordedtime=started, time=None, door="search"
                )
                for p, i in ((asked, query_id), (retrieval, retrieval_id))
            ]
        )
        return SearchAnswer(
            query_id=query_id,
            retrieval_id=retrieval_id,
            version=served.pipeline.version,
            exposures=serving.exposures,
            exploration=shown.explored,
            latency_ms=round(latency_ms, 3),
            hits=tuple(
                self._found(held, item.hit, item.rank, item.propensity)
                for item in shown.hits
                if held.corpus.get(item.hit.document_id) is not None  # it may have gone since
            ),
        )

    def _rank(self, served: ServedVersion, text: str, k: int) -> tuple[FoundHit, ...]:
        depth = served.pipeline.settings.depth
        return served.pipeline.search(text, min(depth, max(k, self._settings.exploration_pool_end)))

    @staticmethod
    def _found(held: ServedTenant, hit: FoundHit, rank: int, propensity: float) -> FoundDocument:
        document = held.corpus.get(hit.document_id)
        assert document is not None
        return FoundDocument(
            rank=rank,
            document_id=hit.document_id,
            title=document.title,
            text=document.text,
            fields=document.fields,
            score=hit.score,
            propensity=propensity,
        )

    async def maintain(self, tenants: tuple[str, ...], check: Callable[[], None]) -> None:
        """Propose the base where no version serves, and keep every wanted version loaded, for ever.

        `check` raises Fatal when what this service follows can no longer be followed.
        """
        limit_cpu_threads(self._settings.torch_threads)
        for tenant in tenants:
            await self._ensure_base(tenant)
        while True:
            check()
            self._dirty.clear()
            for tenant in sorted({*tenants, *self._tenants, *self._lifecycle.tenants()}):
                try:
                    await self._refresh(tenant)
                except Retryable as error:
                    log.warning("versions of %s: %s; looked at again soon", tenant, error)
            try:
                async with asyncio.timeout(5.0):
                    await self._dirty.wait()
            except TimeoutError:
                continue

    async def _ensure_base(self, tenant: str) -> None:
        state = await self._lifecycle.state(tenant)
        if state.champion is None:
            events = await self._prepare(
                propose_base, tenant, state, self._artifacts, self._settings, self._now()
            )
            for event in events:
                outcome = await self._lifecycle.append(event)
                log.info("base of %s: %s %s", tenant, event.type, outcome.reason or "accepted")

    async def _refresh(self, tenant: str) -> None:
        state, held = self._current(tenant), self.tenant(tenant)
        wanted = state.serving_versions()
        for version in wanted:
            served = held.versions.get(version)
            if served is None:
                directory: Path = self._artifacts.version(tenant, version)
                try:
                    served = await self._prepare(held.open, directory, self._pool)
                except VersionDamaged as damaged:
                    if version == state.champion:
                        raise
                    # A candidate is missed by nobody; it stays not ready, and the log says why.
                    log.error("version %s of %s cannot be served: %s", version, tenant, damaged)
                    continue
            generation = held.corpus.generation
            if served.generation < generation:
                put, removed = held.corpus.changes_since(served.generation)
                await self._prepare(served.refresh, put, removed, generation)
            # Only a version whose index holds every document is shown to anyone.
            held.versions[version] = served
            if version == state.champion:
                held.last_champion = version
            if not state.versions[version].ready and tenant not in self._others_say_ready:
                await self._say_ready(tenant, state, version)
        for version in set(held.versions) - set(wanted):
            del held.versions[version]

    async def _say_ready(self, tenant: str, state: LifecycleState, version: str) -> None:
        cause = state.versions[version].proposed_by
        event = seal_event(
            VersionReady(version=version),
            id=step_id(cause, "version.ready"),
            source=SOURCE,
            tenant=tenant,
            recordedtime=self._now(),
            door="search",
            causationid=cause,
        )
        outcome = await self._lifecycle.append(event)
        log.info("version %s of %s is ready %s", version, tenant, outcome.reason)

    async def _prepare(self, function: Callable[..., _T], *args: object) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._preparing, function, *args)

    def close(self) -> None:
        """Stop the threads; searches under way are finished first."""
        self._searching.shutdown(wait=True)
        self._preparing.shutdown(wait=True)


def _standing(held: ServedTenant, ranked: Sequence[FoundHit]) -> list[FoundHit]:
    """The hits whose documents are still there: the index learns of a removal a little later."""
    there = [hit for hit in ranked if held.corpus.get(hit.document_id) is not None]
    return [dataclasses.replace(hit, rank=rank) for rank, hit in enumerate(there, start=1)]


def _unix_ms(moment: dt.datetime) -> int:
    return int(moment.timestamp() * 1000)
