-- The door of an entry, and what an original says of itself, so that nobody parses originals to find it.
ALTER TABLE {store}.rejected ADD COLUMN IF NOT EXISTS door LowCardinality(String) AFTER code_version;
ALTER TABLE {store}.rejected ADD COLUMN IF NOT EXISTS
    subject String MATERIALIZED JSONExtractString(original, 'subject');
ALTER TABLE {store}.rejected ADD COLUMN IF NOT EXISTS
    original_hash String MATERIALIZED JSONExtractString(original, 'contenthash');

-- As 0014; and `times`, how often an entry came; `door`; conflicts can be answered, too; what was replayed may
-- wait for its query. Of an entry its first record shows, in the order of the table: originals are not sorted.
--
-- A conflict is known by identity and content: the same content again is no other entry. The original of a
-- document's conflict is a CloudEvent written again from its columns; its event time, which nothing is made
-- of, is not among them.
CREATE OR REPLACE VIEW {views}.rejected AS
WITH
    answers AS
    (
        SELECT
            tenant,
            JSONExtractString(data, 'entry_id') AS entry_id,
            JSONExtractString(data, 'subject') AS subject,
            JSONExtractString(data, 'event_source') AS source,
            JSONExtractString(data, 'event_id') AS event_id,
            type
        FROM {store}.lifecycle FINAL
        WHERE ignored = '' AND type IN ('ratchet.rejection.replayed.v1', 'ratchet.rejection.discarded.v1')
    ),
    answered AS
    (
        SELECT tenant, entry_id
        FROM answers
        WHERE
            type = 'ratchet.rejection.discarded.v1'
            OR (tenant, subject, source, event_id) IN
            (
                SELECT tenant, query_id, source, event_id
                FROM {store}.events
                WHERE (tenant, query_id) IN (SELECT tenant, subject FROM answers WHERE event_id != '')
                UNION ALL
                SELECT tenant, document_id, source, event_id
                FROM {store}.documents
                WHERE (tenant, document_id) IN (SELECT tenant, subject FROM answers WHERE event_id != '')
                UNION ALL
                SELECT tenant, reference, source, event_id
                FROM {store}.waiting
                WHERE (tenant, reference) IN (SELECT tenant, subject FROM answers WHERE event_id != '')
            )
    ),
    counts AS
    (
        SELECT
            tenant,
            entry_id,
            uniqExact(source, rejection_id, received_time) AS times,
            max(received_time) AS last_received_time
        FROM {store}.rejected
        GROUP BY tenant, entry_id
    ),
    firsts AS
    (
        SELECT
            tenant,
            entry_id,
            source,
            reason,
            message,
            field,
            event_source,
            event_id,
            event_type,
            subject,
            original_hash,
            door,
            received_time,
            original,
            original_length,
            headers,
            replayable,
            code_version
        FROM {store}.rejected
        ORDER BY tenant, entry_id, source, rejection_id, received_time, content_hash
        LIMIT 1 BY tenant, entry_id
    ),
    -- What can have been stored by itself since: bytes that say whose content they are.
    hashed AS
    (
        SELECT DISTINCT tenant, subject FROM {store}.rejected WHERE original_hash != ''
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
    if(door = '' AND source = 'ratchet/streams', 'streams', toString(door)) AS door,
    received_time,
    last_received_time,
    times,
    original,
    original_length,
    headers,
    replayable,
    code_version
FROM firsts
INNER JOIN counts USING (tenant, entry_id)
WHERE
    (tenant, subject, event_source, event_id, original_hash) NOT IN
    (
        SELECT tenant, query_id, source, event_id, content_hash
        FROM {store}.events
        WHERE (tenant, query_id) IN (SELECT tenant, subject FROM hashed)
        UNION ALL
        SELECT tenant, document_id, source, event_id, content_hash
        FROM {store}.documents
        WHERE (tenant, document_id) IN (SELECT tenant, subject FROM hashed)
        UNION ALL
        SELECT tenant, reference, source, event_id, content_hash
        FROM {store}.waiting
        WHERE (tenant, reference) IN (SELECT tenant, subject FROM hashed)
    )
    AND (tenant, entry_id) NOT IN (SELECT tenant, entry_id FROM answered)
UNION ALL
SELECT
    tenant,
    lower(hex(SHA256(concat(
        tenant, '\x1f', query_id, '\x1f', source, '\x1f', event_id, '\x1f', content_hash
    )))) AS entry_id,
    'conflict' AS reason,
    'expected equal content under one source and id; an earlier event has other content and stands; send a new id'
        AS message,
    '' AS field,
    source AS event_source,
    event_id,
    toString(first_type) AS event_type,
    query_id AS subject,
    toString(first_door) AS door,
    first_received AS received_time,
    last_received AS last_received_time,
    seen AS times,
    first_record AS original,
    toUInt64(length(first_record)) AS original_length,
    '{}' AS headers,
    toUInt8(1) AS replayable,
    '' AS code_version
FROM
(
    SELECT
        *,
        first_value(content_hash) OVER
        (
            PARTITION BY tenant, query_id, source, event_id
            ORDER BY first_received, content_hash
        ) AS event_hash
    FROM
    (
        SELECT
            tenant,
            query_id,
            source,
            event_id,
            content_hash,
            min(received_time) AS first_received,
            max(received_time) AS last_received,
            uniqExact(received_time) AS seen,
            any(type) AS first_type,
            argMin(door, received_time) AS first_door,
            argMin(record, received_time) AS first_record
        FROM {store}.events
        WHERE (tenant, query_id) IN
        (
            SELECT tenant, query_id FROM {store}.episodes FINAL WHERE notEmpty(conflict_source)
        )
        GROUP BY tenant, query_id, source, event_id, content_hash
    )
)
WHERE content_hash != event_hash AND (tenant, entry_id) NOT IN (SELECT tenant, entry_id FROM answered)
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
    '' AS door,
    first_received AS received_time,
    last_received AS last_received_time,
    seen AS times,
    concat(
        '{"specversion":"1.0","id":', toJSONString(event_id),
        ',"source":', toJSONString(source),
        ',"type":', toJSONString(event_type),
        ',"data":{"document_id":', toJSONString(document_id),
        if(
            removed,
            '',
            concat(',"fields":', fields, ',"text":', toJSONString(text), ',"title":', toJSONString(title))
        ),
        '}}'
    ) AS original,
    toUInt64(length(original)) AS original_length,
    '{}' AS headers,
    toUInt8(1) AS replayable,
    '' AS code_version
FROM
(
    SELECT
        tenant,
        document_id,
        source,
        event_id,
        content_hash,
        received_time AS first_received,
        removed,
        title,
        text,
        fields,
        first_value(content_hash) OVER identity AS event_hash,
        max(received_time) OVER content AS last_received,
        uniqExact(received_time) OVER content AS seen
    FROM {store}.documents
    -- by hashes, for a tenth of the memory; identities that share one are told apart by the window
    WHERE cityHash64(tenant, document_id, source, event_id) IN
    (
        SELECT cityHash64(tenant, document_id, source, event_id) AS identity
        FROM {store}.documents
        GROUP BY identity
        HAVING min(cityHash64(content_hash)) != max(cityHash64(content_hash))
    )
    WINDOW
        identity AS (PARTITION BY tenant, document_id, source, event_id ORDER BY received_time, content_hash),
        content AS (PARTITION BY tenant, document_id, source, event_id, content_hash)
)
WHERE content_hash != event_hash AND (tenant, entry_id) NOT IN (SELECT tenant, entry_id FROM answered)
ORDER BY tenant, document_id, source, event_id, content_hash, first_received
LIMIT 1 BY tenant, document_id, source, event_id, content_hash;
