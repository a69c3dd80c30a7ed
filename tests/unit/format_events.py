"""What a format makes of a body, through the real admission."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from ingest.admission import Admission, Rejection
from ingest.formats.items import Undecoded
from ingest.formats.registry import decode
from ingest.settings import IngestSettings
from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.errors import Rejectable

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
_ADMISSION = Admission(IngestSettings())


def events_of(format: str, *pieces: Any) -> list[Event]:
    """The events of these pieces, each sent by itself; all must be admitted."""
    items = [item for piece in pieces for item in decode(format, json.dumps(piece).encode())]
    events = []
    for item in items:
        assert not isinstance(item, Undecoded), item.why
        event = _ADMISSION.admit(item, tenant="acme", door=format, received=NOW)
        assert not isinstance(event, Rejection), event
        events.append(event)
    return events


def payload_of(format: str, piece: Any) -> Any:
    """The payload of the one event of a piece."""
    (event,) = events_of(format, piece)
    return decode_payload(event)


def refusal_of(format: str, piece: Any) -> Rejectable:
    """Why a piece, sent by itself, was refused; what is kept must be the piece."""
    (item,) = decode(format, json.dumps(piece).encode())
    assert isinstance(item, Undecoded)
    assert json.loads(item.original) == piece
    return item.why
