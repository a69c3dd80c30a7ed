-- Every record of `waiting`: feedback that knows no query, and what names its query.
CREATE TABLE IF NOT EXISTS {store}.waiting
(
    tenant        String,
    reference     String,
    source        String,
    event_id      String,
    content_hash  String,
    received_time DateTime64(6, 'UTC'),
    event_time    Nullable(DateTime64(6, 'UTC')),
    type          LowCardinality(String),
    query_id      String,
    data          String CODEC(ZSTD(1)),
    record        String CODEC(ZSTD(1)),
    row_hash      UInt64,
    topic         LowCardinality(String),
    partition     Int32,
    offset        Int64,
    written_at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC'),
    -- Of rows of one record the first in the log stays: which of two names stands first decides between them.
    earliness     UInt64 MATERIALIZED 9223372036854775807 - toUInt64(offset)
)
ENGINE = ReplacingMergeTree(earliness)
-- The type before the reference: there are few pieces of feedback among very many names.
ORDER BY (tenant, type, reference, source, event_id, received_time, content_hash)
-- Small granules: the worker looks up single references.
SETTINGS index_granularity = 512;

-- Feedback that still waits for a record that names its query, each once.
CREATE OR REPLACE VIEW {views}.waiting AS
SELECT
    tenant,
    reference,
    source,
    event_id,
    event_time,
    received_time,
    data,
    content_hash,
    topic,
    partition,
    offset
FROM
(
    SELECT *
    FROM {store}.waiting
    WHERE type = 'ratchet.feedback.referred.v1'
    ORDER BY tenant, reference, source, event_id, received_time, content_hash
    LIMIT 1 BY tenant, reference, source, event_id
)
WHERE (tenant, reference) NOT IN
(
    SELECT tenant, reference
    FROM {store}.waiting
    WHERE type = 'ratchet.query.named.v1'
        AND (tenant, reference) IN
        (
            SELECT tenant, reference FROM {store}.waiting WHERE type = 'ratchet.feedback.referred.v1'
        )
);
