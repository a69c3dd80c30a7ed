-- Every record of `interactions`; the whole record is the key, so that a re-delivered batch changes nothing.
-- Within an identity the event (smallest received time, then hash) stands first: the view reads in key order.
CREATE TABLE IF NOT EXISTS {store}.events
(
    tenant         String,
    query_id       String,
    source         String,
    event_id       String,
    content_hash   String,
    received_time  DateTime64(6, 'UTC'),
    event_time     Nullable(DateTime64(6, 'UTC')),
    effective_time DateTime64(6, 'UTC'),
    time_doubted   UInt8,
    type           LowCardinality(String),
    door           LowCardinality(String),
    data           String CODEC(ZSTD(1)),
    record         String CODEC(ZSTD(1)),
    row_hash       UInt64,
    topic          LowCardinality(String),
    partition      Int32,
    offset         Int64,
    written_at     DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, query_id, source, event_id, received_time, content_hash)
-- Small granules: the worker and `trace` look up single queries.
SETTINGS index_granularity = 512;

-- A condition on tenant, query_id, source or event_id passes below LIMIT BY and uses the primary key.
CREATE OR REPLACE VIEW {views}.events AS
SELECT
    tenant,
    query_id,
    source,
    event_id,
    type,
    event_time,
    received_time,
    effective_time,
    time_doubted,
    door,
    content_hash,
    data,
    topic,
    partition,
    offset
FROM {store}.events
ORDER BY tenant, query_id, source, event_id, received_time, content_hash
LIMIT 1 BY tenant, query_id, source, event_id;
