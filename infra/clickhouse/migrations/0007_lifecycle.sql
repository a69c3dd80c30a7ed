-- Every record of `lifecycle`, in the order of the log, with what the state machine said to it.
CREATE TABLE IF NOT EXISTS {store}.lifecycle
(
    tenant        String,
    source        String,
    event_id      String,
    content_hash  String,
    received_time DateTime64(6, 'UTC'),
    event_time    Nullable(DateTime64(6, 'UTC')),
    type          LowCardinality(String),
    causation_id  String,
    attempt       UInt32,
    data          String CODEC(ZSTD(1)),
    record        String CODEC(ZSTD(1)),
    ignored       String,
    row_hash      UInt64,
    topic         LowCardinality(String),
    partition     Int32,
    offset        Int64,
    written_at    DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, partition, offset);

CREATE OR REPLACE VIEW {views}.lifecycle AS
SELECT
    tenant,
    source,
    event_id,
    type,
    event_time,
    received_time,
    causation_id,
    attempt,
    data,
    if(ignored = '', 'accepted', 'ignored') AS outcome,
    ignored AS reason,
    content_hash,
    topic,
    partition,
    offset
FROM {store}.lifecycle FINAL
ORDER BY tenant, partition, offset;
