-- Every record of `documents`.
CREATE TABLE IF NOT EXISTS {store}.documents
(
    tenant        String,
    document_id   String,
    source        String,
    event_id      String,
    content_hash  String,
    received_time DateTime64(6, 'UTC'),
    removed       UInt8,
    title         String,
    text          String CODEC(ZSTD(1)),
    fields        String,
    text_hash     String,
    row_hash      UInt64,
    topic         LowCardinality(String),
    partition     Int32,
    offset        Int64,
    written_at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, document_id, source, event_id, received_time, content_hash)
SETTINGS index_granularity = 1024;

-- First one event per identity (the smallest received time, then hash), so that a late repeat of an old
-- text cannot win; then, per document, the event received last (the larger hash among equals).
CREATE OR REPLACE VIEW {views}.documents AS
SELECT
    tenant,
    document_id,
    title,
    text,
    fields,
    text_hash,
    received_time,
    source,
    event_id,
    content_hash
FROM
(
    SELECT *
    FROM
    (
        SELECT *
        FROM {store}.documents
        ORDER BY tenant, document_id, source, event_id, received_time, content_hash
        LIMIT 1 BY tenant, document_id, source, event_id
    )
    ORDER BY tenant, document_id, received_time DESC, content_hash DESC
    LIMIT 1 BY tenant, document_id
)
WHERE NOT removed;
