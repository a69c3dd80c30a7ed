-- Training pairs live inside their query's row, so that an old pair disappears with its row.
CREATE OR REPLACE VIEW {views}.pairs AS
SELECT
    tenant,
    query_id,
    text AS query,
    document_id,
    label,
    weight,
    kind,
    arrayMap((source, id) -> CAST((source, id), 'Tuple(source String, id String)'), sources, ids) AS events,
    version AS pipeline_version,
    retrieval AS retrieval_id,
    rank,
    propensity,
    text_hash,
    asked_at,
    unit
FROM {store}.episodes FINAL
ARRAY JOIN
    pair_document_id AS document_id,
    pair_label AS label,
    pair_weight AS weight,
    pair_kind AS kind,
    pair_event_sources AS sources,
    pair_event_ids AS ids,
    pair_pipeline_version AS version,
    pair_retrieval_id AS retrieval,
    pair_rank AS rank,
    pair_propensity AS propensity,
    pair_text_hash AS text_hash;
