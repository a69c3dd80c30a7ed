-- How far the worker has committed, as it last saw it.
CREATE TABLE IF NOT EXISTS {store}.offsets
(
    topic       LowCardinality(String),
    partition   Int32,
    committed   Int64, -- next offset to read
    end_offset  Int64,
    observed_at DateTime64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(observed_at)
ORDER BY (topic, partition);

CREATE OR REPLACE VIEW {views}.lag AS
SELECT
    topic,
    partition,
    committed,
    end_offset,
    greatest(end_offset - committed, 0) AS lag,
    observed_at,
    dateDiff('second', observed_at, now64(6, 'UTC')) AS age_s
FROM {store}.offsets FINAL;
