-- Every record of `rejected`: what could not be accepted, folded or stored.
CREATE TABLE IF NOT EXISTS {store}.rejected
(
    tenant          String,
    entry_id        String,
    source          String,
    rejection_id    String,
    content_hash    String,
    received_time   DateTime64(6, 'UTC'),
    reason          LowCardinality(String),
    message         String,
    field           String,
    original        String CODEC(ZSTD(1)),
    original_length UInt64,
    headers         String,
    event_source    String,
    event_id        String,
    event_type      String,
    replayable      UInt8,
    code_version    String,
    row_hash        UInt64,
    topic           LowCardinality(String),
    partition       Int32,
    offset          Int64,
    written_at      DateTime64(6, 'UTC') DEFAULT now64(6, 'UTC')
)
ENGINE = ReplacingMergeTree
ORDER BY (tenant, entry_id, source, rejection_id, received_time, content_hash);

-- Entries that still stand, one row each, and conflicts, which are derived: records of an identity whose
-- content differs from the event's. Hidden: an entry whose identity and content have since been stored, one
-- whose mended replay has been stored, and one that a person discarded.
CREATE OR REPLACE VIEW {views}.rejected AS
WITH
    entries AS
    (
        SELECT
            *,
            JSONExtractString(original, 'subject') AS subject,
            JSONExtractString(original, 'contenthash') AS original_hash
        FROM {store}.rejected
        ORDER BY tenant, entry_id, received_time, content_hash
        LIMIT 1 BY tenant, entry_id
    ),
    answers AS
    (
        SELECT
            tenant,
            JSONExtractString(data, 'entry_id') AS entry_id,
            JSONExtractString(data, 'event_source') AS source,
            JSONExtractString(data, 'event_id') AS event_id,
            type
        FROM {store}.lifecycle FINAL
        WHERE ignored = '' AND type IN ('ratchet.rejection.replayed.v1', 'ratchet.rejection.discarded.v1')
    )
SELECT
    tenant,
    entry_id,
    toString(reason) AS reason,
    message,
    field,
    event_source,
    event_id,
    event_type,
    subject,
    received_time,
    original,
    original_length,
    headers,
    replayable,
    code_version
FROM entries
WHERE
    (tenant, subject, event_source, event_id, original_hash) NOT IN
    (
        SELECT tenant, query_id, source, event_id, content_hash
        FROM {store}.events
        WHERE (tenant, query_id) IN (SELECT tenant, subject FROM entries WHERE original_hash != '')
    )
    AND (tenant, subject, event_source, event_id, original_hash) NOT IN
    (
        SELECT tenant, document_id, source, event_id, content_hash
        FROM {store}.documents
        WHERE (tenant, document_id) IN (SELECT tenant, subject FROM entries WHERE original_hash != '')
    )
    AND (tenant, entry_id) NOT IN
    (
        SELECT tenant, entry_id
        FROM answers
        WHERE
            type = 'ratchet.rejection.discarded.v1'
            OR (tenant, source, event_id) IN
            (
                SELECT tenant, source, event_id
                FROM {store}.events
                WHERE event_id IN (SELECT event_id FROM answers WHERE event_id != '')
                UNION ALL
                SELECT tenant, source, event_id
                FROM {store}.documents
                WHERE event_id IN (SELECT event_id FROM answers WHERE event_id != '')
            )
    )
UNION ALL
SELECT
    tenant,
    lower(hex(SHA256(concat(tenant, '\x1f', record)))) AS entry_id,
    'conflict' AS reason,
    'expected equal content under one source and id; an earlier event has other content and stands; send a new id'
        AS message,
    '' AS field,
    source AS event_source,
    event_id,
    toString(type) AS event_type,
    query_id AS subject,
    received_time,
    record AS original,
    toUInt64(length(record)) AS original_length,
    '{}' AS headers,
    toUInt8(0) AS replayable,
    '' AS code_version
FROM
(
    SELECT
        *,
        first_value(content_hash) OVER
        (
            PARTITION BY tenant, query_id, source, event_id
            ORDER BY received_time, content_hash
        ) AS event_hash
    FROM {store}.events
    WHERE (tenant, query_id) IN (SELECT tenant, query_id FROM {store}.episodes FINAL WHERE notEmpty(conflict_source))
)
WHERE content_hash != event_hash
LIMIT 1 BY tenant, query_id, source, event_id, content_hash;
