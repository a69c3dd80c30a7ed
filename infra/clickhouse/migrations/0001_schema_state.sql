-- What stands in this store: applied migrations, and the version of the fold that wrote the rows.
CREATE TABLE IF NOT EXISTS {store}.schema_state
(
    kind       LowCardinality(String), -- 'migration' or 'fold'
    number     UInt32,
    name       String,
    checksum   String,
    written_at DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(written_at)
ORDER BY (kind, number);
