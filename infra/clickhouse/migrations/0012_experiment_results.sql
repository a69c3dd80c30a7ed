-- What the learner measured, by arm and metric; `latest` marks an experiment's last measurement.
CREATE OR REPLACE VIEW {views}.experiment_results AS
SELECT
    tenant,
    experiment,
    event_id,
    received_time AS measured_at,
    place = max(place) OVER (PARTITION BY tenant, experiment) AS latest,
    JSONExtractString(result, 'arm') AS arm,
    JSONExtractString(result, 'metric') AS metric,
    JSONExtractUInt(result, 'units') AS units,
    JSONExtract(result, 'mean', 'Nullable(Float64)') AS mean,
    JSONExtract(result, 'always', 'estimate', 'Nullable(Float64)') AS difference,
    JSONExtract(result, 'always', 'low', 'Nullable(Float64)') AS always_low,
    JSONExtract(result, 'always', 'high', 'Nullable(Float64)') AS always_high,
    JSONExtract(result, 'always', 'alpha', 'Nullable(Float64)') AS alpha,
    JSONExtract(result, 'welch', 'low', 'Nullable(Float64)') AS fixed_horizon_welch_low,
    JSONExtract(result, 'welch', 'high', 'Nullable(Float64)') AS fixed_horizon_welch_high,
    JSONExtract(result, 'proportion', 'low', 'Nullable(Float64)') AS fixed_horizon_proportion_low,
    JSONExtract(result, 'proportion', 'high', 'Nullable(Float64)') AS fixed_horizon_proportion_high,
    excluded_units,
    sample_ratio_p,
    offsets
FROM
(
    SELECT
        tenant,
        event_id,
        received_time,
        offset AS place,
        JSONExtractString(data, 'experiment') AS experiment,
        JSONExtractArrayRaw(data, 'results') AS results,
        JSONExtractUInt(data, 'excluded_units') AS excluded_units,
        JSONExtract(data, 'sample_ratio_p', 'Nullable(Float64)') AS sample_ratio_p,
        JSONExtractRaw(data, 'offsets') AS offsets
    FROM {store}.lifecycle FINAL
    WHERE type = 'ratchet.experiment.measured.v1' AND ignored = ''
)
ARRAY JOIN results AS result;
