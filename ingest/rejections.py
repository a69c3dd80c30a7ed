"""From a rejection to the event that keeps it: nothing that came in authenticated vanishes (L2)."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping
from typing import Final

from msgspec import Raw

from ingest.admission import Rejection
from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.rejections import EventRejected, rejection_entry_id

#: CloudEvents source of the rejections that doors write.
REJECTION_SOURCE: Final = "urn:ratchet:ingest"
#: What is kept of an original that is not kept whole.
BEGINNING_BYTES: Final = 64 * 1024


def rejected_event(
    rejection: Rejection,
    raw: bytes | Raw,
    *,
    tenant: str,
    door: str,
    received: dt.datetime,
    headers: Mapping[str, str],
    max_kept_bytes: int,
    code_version: str,
) -> Event:
    """The `event.rejected` of one refused input. Its id is the entry id: the same bytes again are a repeat.

    Of an original over `max_kept_bytes` the first 64 KiB are kept, with the length and, in `headers`, the
    SHA-256 of the whole; such an entry cannot be replayed.
    """
    original = bytes(raw)
    entry_id = rejection_entry_id(tenant, original)
    whole = len(original) <= max_kept_bytes
    kept = dict(headers)
    if not whole:
        kept["original-sha256"] = hashlib.sha256(original).hexdigest()
    return seal_event(
        EventRejected(
            entry_id=entry_id,
            reason=rejection.reason,
            message=rejection.message,
            field=rejection.field,
            original=original if whole else original[: min(max_kept_bytes, BEGINNING_BYTES)],
            original_length=len(original),
            headers=kept,
            event_source=rejection.source,
            event_id=rejection.id,
            event_type=rejection.type,
            replayable=whole,
            code_version=code_version,
        ),
        id=entry_id,
        source=REJECTION_SOURCE,
        tenant=tenant,
        recordedtime=received,
        door=door,
    )
