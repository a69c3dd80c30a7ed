"""Every answer names its query, so that feedback that knows only the answer finds it (`schemas.waiting`)."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from schemas.codec import seal_event
from schemas.envelope import Event
from schemas.ids import derive_id
from schemas.waiting import QueryNamed, answer_reference

#: CloudEvents source of the names that doors write.
NAMES_SOURCE: Final = "urn:ratchet:names"
_ANSWER_GIVEN: Final = "ratchet.answer.given.v1"


class _Answer(Struct):
    query_id: str
    answer_id: str


_decode_answer: Final = msgspec.json.Decoder(_Answer).decode


def name_of(event: Event) -> Event | None:
    """The `query.named` that goes with an event, or None if it names nothing but its query.

    Derived from the event alone: sent again, it is a repeat.
    """
    if event.type != _ANSWER_GIVEN:
        return None
    answer = _decode_answer(event.data)
    reference = answer_reference(answer.answer_id)
    return seal_event(
        QueryNamed(reference=reference, query_id=answer.query_id),
        id=derive_id("named", reference, answer.query_id),
        source=NAMES_SOURCE,
        tenant=event.tenant,
        recordedtime=event.recordedtime,
        door=event.door,
    )
