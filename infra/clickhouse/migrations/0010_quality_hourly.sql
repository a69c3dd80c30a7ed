-- Quality by hour and by the version that served. Queries that nobody asked (yet) do not count.
CREATE OR REPLACE VIEW {views}.quality_hourly AS
SELECT
    tenant,
    toStartOfHour(assumeNotNull(asked_at)) AS hour,
    pipeline_version,
    count() AS queries,
    countIf(retrieval_count > 0) AS served,
    countIf(retrieval_count > 0 AND empty(hit_document_ids)) AS without_hits,
    countIf(retrieval_error != '') AS failed,
    countIf(clicks > 0) AS clicked,
    countIf(clicks > 0) / count() AS click_ratio,
    sum(thumbs_up) AS thumbs_up,
    sum(thumbs_down) AS thumbs_down,
    avg(shown_top_score) AS mean_top_score,
    quantile(0.5)(retrieval_latency_ms) AS latency_p50_ms,
    quantile(0.99)(retrieval_latency_ms) AS latency_p99_ms
FROM {store}.episodes FINAL
WHERE has_query
GROUP BY tenant, hour, pipeline_version;
