"""What the learner needs from outside; `api/processes` binds it. Adapters live in `infra`."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from msgspec import Struct

from schemas.envelope import Event
from schemas.episodes import Episode
from schemas.interactions import Exposure
from schemas.lifecycle import PartitionOffsets
from schemas.lifecycle_state import Outcome
from schemas.tenant_state import LifecycleState

#: Topic → partition → next offset to read.
Offsets = dict[str, PartitionOffsets]


class CurrentDocument(Struct, frozen=True, kw_only=True):
    """A document as it stands now."""

    document_id: str
    title: str
    text: str
    text_hash: str


class ObservedQuery(Struct, frozen=True, kw_only=True):
    """One query as the watch sees it: input and behaviour, no label."""

    query_id: str
    received_at: dt.datetime
    text: str
    unit: str | None
    pipeline_version: str
    exposures: tuple[Exposure, ...]
    #: Scores of the served list, best first; empty if nothing was served.
    scores: tuple[float, ...]
    #: Rank of the topmost click; None if nobody clicked.
    clicked_rank: int | None
    thumbs_up: int
    thumbs_down: int


class UnitMeasure(Struct, frozen=True, kw_only=True):
    """A unit's sum of one measure over its queries from its first exposure on."""

    unit: str
    arm: str
    queries: int
    total: float


class ExperimentUnits(Struct, frozen=True, kw_only=True):
    """What the units of an experiment did, each in one arm only."""

    #: measure → its units; a unit without the measure is not there.
    measures: dict[str, tuple[UnitMeasure, ...]]
    #: Arm → units that were exposed, with or without any measure.
    exposed: dict[str, int]
    #: Units seen in two arms: in none of the figures above.
    excluded_units: int
    #: What the stream worker had committed before the figures were read.
    offsets: Offsets


class LifecycleLog(Protocol):
    """The tenant's lifecycle as a sequence: read to its end, appended to, read back."""

    async def state(self, tenant: str) -> LifecycleState:
        """The state after every event that is in the log now."""

    async def append(self, event: Event) -> Outcome:
        """Append and read back: whether the state machine accepted it. Raises Retryable if unconfirmed."""

    def tenants(self) -> Sequence[str]:
        """Tenants with a lifecycle."""


class EventSink(Protocol):
    """Where search reports what it served."""

    async def append(self, events: Sequence[Event]) -> None:
        """Return once all are durable. Raises Retryable if one is not confirmed in time."""


class EpisodesAsOf(Protocol):
    """Episodes folded from the log up to given offsets, in canonical order (by query_id)."""

    def __call__(self, tenant: str, offsets: Offsets) -> AsyncIterator[Episode]: ...


class DocumentsAsOf(Protocol):
    """Current documents folded from the log up to given offsets, by document_id."""

    async def __call__(self, tenant: str, offsets: Offsets) -> Sequence[CurrentDocument]: ...


class LogOffsets(Protocol):
    """End offsets of the log now: every acknowledged event lies before them."""

    async def __call__(self, topics: Sequence[str]) -> Offsets: ...


class QueryFeed(Protocol):
    """Queries in the order of (received time, query_id), settled: received before `until`."""

    async def after(
        self, tenant: str, cursor: tuple[dt.datetime, str] | None, until: dt.datetime, limit: int
    ) -> Sequence[ObservedQuery]: ...

    async def count_since(self, tenant: str, since: dt.datetime, until: dt.datetime) -> int:
        """How many queries were received after `since` and settled by `until`."""


class UnitMeasures(Protocol):
    """What the units of an experiment did, from their first exposure on."""

    async def __call__(self, tenant: str, experiment: str, measures: Sequence[str]) -> ExperimentUnits: ...
