-- What each query counts for its unit. A unit that a query no longer belongs to keeps a deleted row.
CREATE TABLE IF NOT EXISTS {store}.contributions
(
    tenant           String,
    unit             String,
    query_id         String,
    asked_at         Nullable(DateTime64(6, 'UTC')),
    record_count     UInt64,
    deleted          UInt8,
    experiments      Array(String),
    arms             Array(String),
    pipeline_version LowCardinality(String),
    measures         Array(String),
    values           Array(Float64),
    fold_version     UInt32,
    row_hash         UInt64,
    written_at       DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree(record_count, deleted)
ORDER BY (tenant, unit, query_id);

-- One row per exposure and measure; experiment and arm are '' if the query was exposed to none.
CREATE OR REPLACE VIEW {views}.contributions AS
SELECT
    tenant,
    unit,
    query_id,
    asked_at,
    exposure.1 AS experiment,
    exposure.2 AS arm,
    measured.1 AS measure,
    measured.2 AS value,
    pipeline_version
FROM
(
    SELECT
        * EXCEPT (experiments, arms, measures, values),
        arrayJoin(if(empty(experiments), [('', '')], arrayZip(experiments, arms))) AS exposure,
        arrayZip(measures, values) AS measurements
    FROM {store}.contributions FINAL
)
ARRAY JOIN measurements AS measured;
