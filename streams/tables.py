"""What the worker writes: table → column → ClickHouse type. The one list; migrations are checked against it.

Storage may add columns that it fills itself (such as a write time), but none of these may be missing or
have another type. Times are `DateTime64(6, 'UTC')` and travel as int64 microseconds since 1970; flags are
UInt8; a JSON column is a String of canonical JSON. `topic`, `partition` and `offset` say where the record
was read from: a hint, which two equal rows need not share. Columns named in a group (`hit_*`, `feedback_*`,
…) are arrays of one length.
"""

from __future__ import annotations

from typing import Final

_TIME: Final = "DateTime64(6, 'UTC')"
_NULLABLE_TIME: Final = "Nullable(DateTime64(6, 'UTC'))"
_NAME: Final = "LowCardinality(String)"

#: Where a record was read from; never part of a hash.
POSITION: Final[dict[str, str]] = {
    "topic": _NAME,
    "partition": "Int32",
    "offset": "Int64",
}

#: A record of `interactions`. Key: (tenant, query_id, source, event_id, content_hash, received_time).
EVENTS: Final[dict[str, str]] = {
    "tenant": "String",
    "query_id": "String",
    "source": "String",
    "event_id": "String",
    "content_hash": "String",
    "received_time": _TIME,
    "event_time": _NULLABLE_TIME,
    "effective_time": _TIME,
    "time_doubted": "UInt8",
    "type": _NAME,
    "door": _NAME,
    #: The whole record as on the topic: what a fold reads back, and what a reader's `data` is cut out of.
    "record": "String",
    **POSITION,
}

#: The present state of a query. Key: (tenant, query_id); version: record_count.
EPISODES: Final[dict[str, str]] = {
    "tenant": "String",
    "query_id": "String",
    "record_count": "UInt64",
    #: 0 while the row waits for its query.
    "has_query": "UInt8",
    "query_source": "String",
    "query_event_id": "String",
    "asked_at": _NULLABLE_TIME,
    "first_received_at": _TIME,
    "text": "String",
    #: '' if the query names no user, session or device.
    "unit": "String",
    "unit_kind": _NAME,
    "attributes": "String",
    "exposures_experiment": "Array(String)",
    "exposures_arm": "Array(String)",
    "pipeline_version": _NAME,
    # The served list: the latest non-shadow one.
    "retrieval_id": "String",
    "retrieval_latency_ms": "Nullable(Float64)",
    "retrieval_error": "String",
    "retrieval_exploration": "UInt8",
    "hit_document_ids": "Array(String)",
    "hit_ranks": "Array(UInt32)",
    "hit_text_hashes": "Array(String)",
    "hit_scores": "Array(Nullable(Float64))",
    "hit_propensities": "Array(Nullable(Float64))",
    "shown_top_score": "Nullable(Float64)",
    # Every list, shadow ones too, by (effective time, retrieval_id).
    "retrieval_count": "UInt32",
    "retrieval_ids": "Array(String)",
    "retrieval_times": "Array(DateTime64(6, 'UTC'))",
    "retrieval_pipeline_versions": "Array(String)",
    "retrieval_shadows": "Array(UInt8)",
    "clicks": "UInt32",
    "thumbs_up": "UInt32",
    "thumbs_down": "UInt32",
    "feedback_source": "Array(String)",
    "feedback_id": "Array(String)",
    "feedback_time": "Array(DateTime64(6, 'UTC'))",
    "feedback_kind": "Array(String)",
    "feedback_value": "Array(Nullable(Float64))",
    "feedback_text": "Array(String)",
    "feedback_rater": "Array(String)",
    "feedback_name": "Array(String)",
    "feedback_target": "Array(String)",
    "feedback_document_id": "Array(String)",
    "feedback_answer_id": "Array(String)",
    "feedback_retrieval_id": "Array(String)",
    "feedback_rank": "Array(Nullable(UInt32))",
    "feedback_attribution": "Array(String)",
    "answer_ids": "Array(String)",
    "answer_times": "Array(DateTime64(6, 'UTC'))",
    "answer_texts": "Array(String)",
    "answer_generators": "Array(String)",
    "answer_citations": "Array(Array(String))",
    "answer_input_tokens": "Array(Nullable(UInt64))",
    "answer_output_tokens": "Array(Nullable(UInt64))",
    "answer_costs_usd": "Array(Nullable(Float64))",
    "answer_latencies_ms": "Array(Nullable(Float64))",
    "answer_cached": "Array(UInt8)",
    "answer_errors": "Array(String)",
    "pair_document_id": "Array(String)",
    "pair_text_hash": "Array(String)",
    "pair_label": "Array(UInt8)",
    "pair_weight": "Array(Float64)",
    "pair_kind": "Array(String)",
    "pair_retrieval_id": "Array(String)",
    "pair_pipeline_version": "Array(String)",
    "pair_rank": "Array(UInt32)",
    "pair_propensity": "Array(Nullable(Float64))",
    "pair_event_sources": "Array(Array(String))",
    "pair_event_ids": "Array(Array(String))",
    "measures": "Array(String)",
    "values": "Array(Float64)",
    #: Feedback that stands while the query is unknown; 0 once it is there.
    "waiting_feedback": "UInt32",
    "retracted_source": "Array(String)",
    "retracted_id": "Array(String)",
    "repeats": "UInt32",
    "conflict_source": "Array(String)",
    "conflict_id": "Array(String)",
    "superseded_source": "Array(String)",
    "superseded_id": "Array(String)",
    "fold_version": "UInt32",
}

#: What a query counts for its unit. Key: (tenant, unit, query_id); version: record_count.
CONTRIBUTIONS: Final[dict[str, str]] = {
    "tenant": "String",
    "unit": "String",
    "query_id": "String",
    "asked_at": _NULLABLE_TIME,
    "record_count": "UInt64",
    #: 1: this unit no longer is the query's.
    "deleted": "UInt8",
    "experiments": "Array(String)",
    "arms": "Array(String)",
    "pipeline_version": _NAME,
    "measures": "Array(String)",
    "values": "Array(Float64)",
    "fold_version": "UInt32",
}

#: A record of `documents`. Current is the largest (received_time, content_hash) of (tenant, document_id).
DOCUMENTS: Final[dict[str, str]] = {
    "tenant": "String",
    "document_id": "String",
    "source": "String",
    "event_id": "String",
    "content_hash": "String",
    "received_time": _TIME,
    "removed": "UInt8",
    "title": "String",
    "text": "String",
    "fields": "String",
    #: What a hit names to say which text was shown; '' if removed.
    "text_hash": "String",
    **POSITION,
}

#: A record of `rejected`. `event_*` is what the refused input said of itself, as far as it was readable.
REJECTED: Final[dict[str, str]] = {
    "tenant": "String",
    "entry_id": "String",
    "source": "String",
    "rejection_id": "String",
    "content_hash": "String",
    "received_time": _TIME,
    "reason": _NAME,
    "message": "String",
    "field": "String",
    "original": "String",
    "original_length": "UInt64",
    "headers": "String",
    "event_source": "String",
    "event_id": "String",
    "event_type": "String",
    "replayable": "UInt8",
    "code_version": "String",
    "door": _NAME,
    **POSITION,
}

#: A record of `lifecycle`, in the order of (partition, offset).
LIFECYCLE: Final[dict[str, str]] = {
    "tenant": "String",
    "source": "String",
    "event_id": "String",
    "content_hash": "String",
    "received_time": _TIME,
    "event_time": _NULLABLE_TIME,
    "type": _NAME,
    "causation_id": "String",
    "attempt": "UInt32",
    "data": "String",
    "record": "String",
    #: Why the step is illegal in its tenant's state; '' if it counts.
    "ignored": "String",
    **POSITION,
}

#: A record of `waiting`. Key: (tenant, type, reference, source, event_id, received_time, content_hash); of
#: two rows of one key the one with the smaller offset stays.
WAITING: Final[dict[str, str]] = {
    "tenant": "String",
    "reference": "String",
    "source": "String",
    "event_id": "String",
    "content_hash": "String",
    "received_time": _TIME,
    "event_time": _NULLABLE_TIME,
    "type": _NAME,
    #: The query that a name gives; '' of feedback.
    "query_id": "String",
    "data": "String",
    "record": "String",
    **POSITION,
}

TABLES: Final[dict[str, dict[str, str]]] = {
    "events": EVENTS,
    "episodes": EPISODES,
    "contributions": CONTRIBUTIONS,
    "documents": DOCUMENTS,
    "rejected": REJECTED,
    "lifecycle": LIFECYCLE,
    "waiting": WAITING,
}
