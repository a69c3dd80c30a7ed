"""An episode: what is known of one query, a pure function of the set of its records."""

from __future__ import annotations

import datetime as dt
from typing import Literal

from msgspec import Struct

from schemas.ids import EventRef
from schemas.interactions import Attribute, Citation, Exposure, FeedbackKind, Hit, Rater, Target

#: Whether the document that feedback names was in a list: `shown`; in none: `not_shown`; names none: ''.
Attribution = Literal["shown", "not_shown", ""]


class TrainingPair(Struct, frozen=True, kw_only=True):
    """Evidence of one query about one document: `label` 0 or 1, `weight` in (0, 1], `kind` from what."""

    query: str
    document_id: str
    text_hash: str | None
    label: int
    weight: float
    kind: str
    #: The list that it is about; '' for a judgement that names none.
    retrieval_id: str
    pipeline_version: str
    #: Where the document stood in that list; 0 if it was judged without being shown.
    rank: int
    propensity: float | None
    events: tuple[EventRef, ...]


class EpisodeRetrieval(Struct, frozen=True, kw_only=True):
    """A result list of the query."""

    ref: EventRef
    retrieval_id: str
    at: dt.datetime
    pipeline_version: str
    shadow: bool
    exploration: bool
    latency_ms: float | None
    error: str | None
    hits: tuple[Hit, ...]


class EpisodeAnswer(Struct, frozen=True, kw_only=True):
    """A generated answer to the query."""

    ref: EventRef
    answer_id: str
    at: dt.datetime
    text: str
    generator: str
    citations: tuple[Citation, ...]
    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_ms: float | None
    cached: bool
    error: str | None


class EpisodeFeedback(Struct, frozen=True, kw_only=True):
    """A piece of feedback that stands (not retracted), with the list it was resolved to."""

    ref: EventRef
    at: dt.datetime
    kind: FeedbackKind
    value: float | None
    text: str | None
    rater: Rater
    name: str
    target: Target
    #: The document that it is about: the one it names, else the one at the rank it names; '' if none.
    document_id: str
    #: The list that the feedback belongs to: the one it names, else the latest non-shadow one that showed
    #: the document; '' if none.
    retrieval_id: str
    #: Rank of the document in that list; None if it was not shown.
    rank: int | None
    attribution: Attribution


class Measurement(Struct, frozen=True):
    """A built-in measure of one query for its unit."""

    measure: str
    value: float


class Episode(Struct, frozen=True, kw_only=True):
    """The present state of one query. Without a `query_ref` it waits for its query (L4)."""

    tenant: str
    query_id: str
    #: Number of records in the set: the row's version. It grows with the set and with nothing else.
    record_count: int
    query_ref: EventRef | None
    asked_at: dt.datetime | None
    #: Smallest received time of the set.
    first_received_at: dt.datetime
    #: Received time of `query_ref`.
    query_received_at: dt.datetime | None
    text: str
    unit: str | None
    unit_kind: Literal["user", "session", "device", ""]
    attributes: dict[str, Attribute]
    exposures: tuple[Exposure, ...]
    #: Version behind the latest non-shadow list; '' if there is none.
    pipeline_version: str
    retrievals: tuple[EpisodeRetrieval, ...]
    answers: tuple[EpisodeAnswer, ...]
    feedback: tuple[EpisodeFeedback, ...]
    #: What retractions name, feedback that has not come yet included.
    retracted: tuple[EventRef, ...]
    pairs: tuple[TrainingPair, ...]
    measurements: tuple[Measurement, ...]
    #: Records that repeat an event with equal content, and such that conflict with it (an entry a record).
    repeats: int
    conflicts: tuple[EventRef, ...]
    #: Events that lost to another event: a second `query.asked`, retrieval_id or answer_id of this query.
    superseded: tuple[EventRef, ...]
    #: Every other unit that a record of the set names: rows under those are deleted.
    former_units: tuple[str, ...]
