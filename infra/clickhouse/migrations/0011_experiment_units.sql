-- One row per unit and measure of an experiment. The arm is the exposure. A unit counts from its first
-- exposure, and no longer than the experiment exposed anyone; one seen in two arms is shown as excluded.
CREATE OR REPLACE VIEW {views}.experiment_units AS
WITH
    exposed AS
    (
        SELECT
            tenant,
            exposure.1 AS experiment,
            unit,
            min(asked_at) AS first_exposed_at,
            max(asked_at) AS last_exposed_at,
            arraySort(groupUniqArray(exposure.2)) AS arms
        FROM
        (
            SELECT tenant, unit, asked_at, arrayZip(experiments, arms) AS exposures
            FROM {store}.contributions FINAL
        )
        ARRAY JOIN exposures AS exposure
        GROUP BY tenant, experiment, unit
    ),
    periods AS
    (
        SELECT tenant, experiment, max(last_exposed_at) AS ended_at
        FROM exposed
        GROUP BY tenant, experiment
    )
SELECT
    exposed.tenant AS tenant,
    exposed.experiment AS experiment,
    exposed.unit AS unit,
    if(length(exposed.arms) = 1, exposed.arms[1], '') AS arm,
    exposed.arms AS arms,
    length(exposed.arms) > 1 AS excluded,
    exposed.first_exposed_at AS first_exposed_at,
    measured.measure AS measure,
    count() AS queries,
    sum(measured.value) AS value
FROM exposed
INNER JOIN periods ON periods.tenant = exposed.tenant AND periods.experiment = exposed.experiment
INNER JOIN
(
    SELECT tenant, unit, asked_at, measure, value
    FROM {store}.contributions FINAL
    ARRAY JOIN measures AS measure, values AS value
) AS measured ON measured.tenant = exposed.tenant AND measured.unit = exposed.unit
WHERE measured.asked_at >= exposed.first_exposed_at AND measured.asked_at <= periods.ended_at
GROUP BY tenant, experiment, unit, arm, arms, excluded, first_exposed_at, measure;
