-- Every version that was proposed, where it stands now, and the events that brought it there.
CREATE OR REPLACE VIEW {views}.versions AS
WITH
    steps AS
    (
        SELECT
            tenant,
            offset,
            received_time,
            event_id,
            data,
            extract(toString(type), '^ratchet\\.(.+)\\.v[0-9]+$') AS step,
            JSONExtractString(data, if(step = 'rollout.started', 'challenger', 'version')) AS version
        FROM {store}.lifecycle FINAL
        WHERE ignored = ''
            AND step IN ('version.proposed', 'version.judged', 'version.ready', 'rollout.started',
                         'version.promoted', 'version.rejected', 'version.rolled_back')
    ),
    champions AS
    (
        SELECT
            tenant,
            argMax(if(step = 'version.promoted', version, JSONExtractString(data, 'to')), offset) AS champion
        FROM steps
        WHERE step IN ('version.promoted', 'version.rolled_back')
        GROUP BY tenant
    )
SELECT
    steps.tenant AS tenant,
    version,
    multiIf(
        version = any(champions.champion), 'champion',
        last_step = 'version.promoted', 'retired',
        last_step = 'version.rolled_back', 'rolled_back',
        last_step = 'version.rejected', 'rejected',
        last_step = 'rollout.started', 'canary',
        last_step = 'version.judged' AND verdict = 'admitted', 'admitted',
        last_step = 'version.judged', 'judged',
        'proposed'
    ) AS state,
    anyIf(JSONExtractString(data, 'origin'), step = 'version.proposed') AS origin,
    anyIf(JSONExtractString(data, 'parent'), step = 'version.proposed') AS parent,
    anyIf(JSONExtractString(data, 'dataset_id'), step = 'version.proposed') AS dataset_id,
    anyIf(JSONExtractString(data, 'manifest_hash'), step = 'version.proposed') AS manifest_hash,
    anyIf(JSONExtract(data, 'validation', 'Nullable(Float64)'), step = 'version.proposed') AS validation,
    argMaxIf(JSONExtractString(data, 'verdict'), offset, step = 'version.judged') AS verdict,
    argMaxIf(JSONExtract(data, 'measure', 'estimate', 'Nullable(Float64)'), offset, step = 'version.judged')
        AS judged_difference,
    countIf(step = 'version.ready') > 0 AS ready,
    minIf(received_time, step = 'version.proposed') AS proposed_at,
    argMaxIf(step, offset, step != 'version.ready') AS last_step,
    max(received_time) AS last_step_at,
    argMaxIf(JSONExtractString(data, 'reason'), offset, step != 'version.ready') AS reason,
    arrayMap(entry -> entry.2, arraySort(groupArray((offset, event_id)))) AS event_ids
FROM steps
LEFT JOIN champions ON champions.tenant = steps.tenant
GROUP BY tenant, version;
