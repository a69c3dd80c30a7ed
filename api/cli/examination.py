"""The figures that `ratchet doctor` looks at: what has arrived, as the views show it."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from api.cli.store import AnalystStore


class EventCount(Struct, frozen=True):
    """Events of one type from one source."""

    type: str
    source: str
    events: int
    last_received: str
    #: Events whose own time was not believed.
    time_doubted: int


class QueryShares(Struct, frozen=True, kw_only=True):
    """Queries that were asked, and how many of them have what learning needs."""

    total: int
    with_list: int
    with_hits: int
    with_ranks: int
    with_scores: int
    with_propensities: int
    with_text_hashes: int
    with_versions: int
    with_units: int
    with_feedback: int
    failed: int


class Waiting(Struct, frozen=True, kw_only=True):
    """Feedback whose query has not come."""

    feedback: int
    queries: int
    oldest_age_s: int
    examples: tuple[str, ...]


class Unknown(Struct, frozen=True, kw_only=True):
    """Documents that are named and do not stand, and feedback on what was not shown."""

    hit_documents: int
    hit_examples: tuple[str, ...]
    feedback_documents: int
    feedback_examples: tuple[str, ...]
    not_shown: int
    not_shown_examples: tuple[str, ...]


class Rejections(Struct, frozen=True, kw_only=True):
    """Rejected entries of one reason, with an example."""

    reason: str
    entries: int
    field: str
    message: str
    example: str


class Figures(Struct, frozen=True, kw_only=True):
    """Everything that was looked at."""

    tenant: str
    documents: int
    events: tuple[EventCount, ...]
    queries: QueryShares
    waiting: Waiting
    unknown: Unknown
    rejected: tuple[Rejections, ...]
    pairs: int
    positive_pairs: int
    #: Different texts of questions with a positive pair.
    positive_questions: int
    champion: str
    #: Why the last training ended without a dataset or version; '' if none did.
    last_abandoned: str
    #: Records that the worker has not committed; None if the broker does not answer.
    lag_events: int | None

    def count(self, event_type: str) -> int:
        """Events of a type, from all sources."""
        return sum(row.events for row in self.events if row.type == event_type)


def examine(store: AnalystStore, tenant: str, lag_events: int | None) -> Figures:
    """Read the figures of a tenant. Raises StatementRefused, Retryable."""

    def rows(sql: str) -> list[dict[str, Any]]:
        return store.rows(sql, tenant=tenant)

    (queries,) = rows(_QUERIES)
    (waiting,) = rows(_WAITING)
    (hits,) = rows(_UNKNOWN_HITS)
    (feedback,) = rows(_UNKNOWN_FEEDBACK)
    (pairs,) = rows(_PAIRS)
    champions = rows("SELECT version FROM versions WHERE tenant = {tenant:String} AND state = 'champion'")
    abandoned = rows(_ABANDONED)
    return Figures(
        tenant=tenant,
        documents=rows("SELECT count() AS n FROM documents WHERE tenant = {tenant:String}")[0]["n"],
        events=tuple(EventCount(**row) for row in rows(_EVENTS)),
        queries=QueryShares(**queries),
        waiting=Waiting(
            feedback=waiting["feedback"],
            queries=waiting["queries"],
            oldest_age_s=waiting["oldest_age_s"],
            examples=tuple(waiting["examples"]),
        ),
        unknown=Unknown(
            hit_documents=hits["n"],
            hit_examples=tuple(hits["examples"]),
            feedback_documents=feedback["unknown"],
            feedback_examples=tuple(feedback["unknown_examples"]),
            not_shown=feedback["not_shown"],
            not_shown_examples=tuple(feedback["not_shown_examples"]),
        ),
        rejected=tuple(Rejections(**row) for row in rows(_REJECTED)),
        pairs=pairs["pairs"],
        positive_pairs=pairs["positive"],
        positive_questions=pairs["questions"],
        champion=champions[0]["version"] if champions else "",
        last_abandoned=abandoned[0]["reason"] if abandoned else "",
        lag_events=lag_events,
    )


_EVENTS: Final = """
SELECT type, source, count() AS events, toString(max(received_time)) AS last_received,
       countIf(time_doubted) AS time_doubted
FROM events WHERE tenant = {tenant:String} GROUP BY type, source ORDER BY type, events DESC
"""
_QUERIES: Final = """
SELECT count() AS total,
       countIf(retrieval_count > 0) AS with_list,
       countIf(notEmpty(hit_document_ids)) AS with_hits,
       countIf(notEmpty(hit_ranks)) AS with_ranks,
       countIf(notEmpty(hit_scores) AND NOT has(hit_scores, NULL)) AS with_scores,
       countIf(notEmpty(hit_propensities) AND NOT has(hit_propensities, NULL)) AS with_propensities,
       countIf(notEmpty(hit_text_hashes) AND NOT has(hit_text_hashes, '')) AS with_text_hashes,
       countIf(pipeline_version != '') AS with_versions,
       countIf(unit != '') AS with_units,
       countIf(notEmpty(feedback_kind)) AS with_feedback,
       countIf(retrieval_error != '') AS failed
FROM episodes WHERE tenant = {tenant:String} AND has_query
"""
_WAITING: Final = """
SELECT sum(waiting_feedback) AS feedback, count() AS queries,
       if(count() = 0, 0, dateDiff('second', min(first_received_at), now64(6, 'UTC'))) AS oldest_age_s,
       groupArray(3)(query_id) AS examples
FROM episodes WHERE tenant = {tenant:String} AND NOT has_query AND waiting_feedback > 0
"""
_UNKNOWN_HITS: Final = """
SELECT count() AS n, groupArray(3)(document_id) AS examples FROM
(
    SELECT DISTINCT arrayJoin(hit_document_ids) AS document_id FROM episodes WHERE tenant = {tenant:String}
)
WHERE document_id NOT IN (SELECT document_id FROM documents WHERE tenant = {tenant:String})
"""
_UNKNOWN_FEEDBACK: Final = """
SELECT countIf(attribution = 'not_shown') AS not_shown,
       groupUniqArrayIf(3)(query_id, attribution = 'not_shown') AS not_shown_examples,
       uniqExactIf(document_id, NOT stands) AS unknown,
       groupUniqArrayIf(3)(document_id, NOT stands) AS unknown_examples
FROM
(
    SELECT query_id, document_id, attribution,
           document_id IN (SELECT document_id FROM documents WHERE tenant = {tenant:String}) AS stands
    FROM episodes ARRAY JOIN feedback_document_id AS document_id, feedback_attribution AS attribution
    WHERE tenant = {tenant:String} AND has_query AND document_id != ''
)
"""
_REJECTED: Final = """
SELECT reason, count() AS entries, any(field) AS field, any(message) AS message,
       any(substring(entry_id, 1, 12)) AS example
FROM rejected WHERE tenant = {tenant:String} GROUP BY reason ORDER BY entries DESC
"""
_PAIRS: Final = """
SELECT count() AS pairs, countIf(label = 1) AS positive,
       uniqExactIf(lowerUTF8(trimBoth(query)), label = 1) AS questions
FROM pairs WHERE tenant = {tenant:String}
"""
_ABANDONED: Final = """
SELECT JSONExtractString(data, 'reason') AS reason FROM lifecycle
WHERE tenant = {tenant:String} AND outcome = 'accepted' AND type = 'ratchet.training.abandoned.v1'
ORDER BY offset DESC LIMIT 1
"""
