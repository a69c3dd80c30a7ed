-- As 0008, and conflicts of documents beside those of queries. No row says which documents have one, so the
-- keys of all records are read: 0.3 s and 100 MiB a million. `original` is the event's data, written again
-- from its columns.
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
LIMIT 1 BY tenant, query_id, source, event_id, content_hash
UNION ALL
SELECT
    tenant,
    lower(hex(SHA256(concat(
        tenant, '\x1f', document_id, '\x1f', source, '\x1f', event_id, '\x1f', content_hash
    )))) AS entry_id,
    'conflict' AS reason,
    'expected equal content under one source and id; an earlier event has other content and stands; send a new id'
        AS message,
    '' AS field,
    source AS event_source,
    event_id,
    if(removed, 'ratchet.document.removed.v1', 'ratchet.document.stored.v1') AS event_type,
    document_id AS subject,
    received_time,
    if(
        removed,
        concat('{"document_id":', toJSONString(document_id), '}'),
        concat(
            '{"document_id":', toJSONString(document_id),
            ',"fields":', fields,
            ',"text":', toJSONString(text),
            ',"title":', toJSONString(title),
            '}'
        )
    ) AS original,
    toUInt64(length(original)) AS original_length,
    '{}' AS headers,
    toUInt8(0) AS replayable,
    '' AS code_version
FROM
(
    SELECT
        *,
        first_value(content_hash) OVER
        (
            PARTITION BY tenant, document_id, source, event_id
            ORDER BY received_time, content_hash
        ) AS event_hash
    FROM {store}.documents
    -- by hashes, for a tenth of the memory; identities that share one are told apart by the window
    WHERE cityHash64(tenant, document_id, source, event_id) IN
    (
        SELECT cityHash64(tenant, document_id, source, event_id) AS identity
        FROM {store}.documents
        GROUP BY identity
        HAVING min(cityHash64(content_hash)) != max(cityHash64(content_hash))
    )
)
WHERE content_hash != event_hash
ORDER BY tenant, document_id, source, event_id, content_hash, received_time
LIMIT 1 BY tenant, document_id, source, event_id, content_hash;
