"""Shortcuts: plain objects → CloudEvents, which then go the way of all others.

A shortcut's body holds the fields of `data` and, if the application likes, `id`, `time` and `source`. What is
absent is minted, so that sending the same `id` (or the same `Idempotency-Key`) again gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import Raw, Struct

from schemas.ids import derive_id

#: CloudEvents source of feedback and of documents whose sender names none; the others add their kind, so that
#: one `Idempotency-Key` for all that is told of a query names several events, not one and its conflicts.
DEFAULT_SOURCE: Final = "urn:ratchet:shortcut"
#: Fields that name something; a shortcut answers with those that the event has.
NAMES: Final = ("query_id", "retrieval_id", "answer_id", "document_id", "feedback_id")


class Shortcut(Struct, frozen=True):
    """One route and the event that it makes.

    `minted`: the field of `data` that is made up when absent. `source`: that of the event when the sender
    names none.
    """

    path: str
    type: str
    minted: str = ""
    source: str = DEFAULT_SOURCE


QUERIES: Final = Shortcut("/v1/queries", "ratchet.query.asked.v1", "query_id", f"{DEFAULT_SOURCE}:queries")
RETRIEVALS: Final = Shortcut(
    "/v1/retrievals", "ratchet.retrieval.served.v1", "retrieval_id", f"{DEFAULT_SOURCE}:retrievals"
)
ANSWERS: Final = Shortcut("/v1/answers", "ratchet.answer.given.v1", "answer_id", f"{DEFAULT_SOURCE}:answers")
FEEDBACK: Final = Shortcut("/v1/feedback", "ratchet.feedback.given.v1")
RETRACTIONS: Final = Shortcut(
    "/v1/feedback/retractions", "ratchet.feedback.retracted.v1", source=f"{DEFAULT_SOURCE}:retractions"
)
DOCUMENTS: Final = Shortcut("/v1/documents", "ratchet.document.stored.v1")
REMOVALS: Final = Shortcut("/v1/documents/{document_id}", "ratchet.document.removed.v1")

#: Shortcuts that take one object.
SINGLE: Final = (QUERIES, RETRIEVALS, ANSWERS, FEEDBACK, RETRACTIONS)


def _text(raw: Raw | None) -> str | None:
    """The string of a JSON value, or None if it is something else (which admission will refuse)."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def compose_event(
    shortcut: Shortcut, fields: dict[str, Raw], *, idempotency_key: str, mint: Callable[[], str]
) -> bytes:
    """The CloudEvent (JSON) of a shortcut's body; every value of it is passed on as it came.

    The id is the body's `id`, else the idempotency key, else a new one. A minted name is the new id itself;
    with a given id it is derived from source and id, so that a repeated request names the same thing.
    """
    data = dict(fields)
    id_ = data.pop("id", None)
    time = data.pop("time", None)
    source = data.pop("source", None)
    given = _text(id_) if id_ is not None else idempotency_key or None
    event_id = given or mint()
    if shortcut.minted and shortcut.minted not in data:
        name = (
            event_id if given is None else derive_id(shortcut.minted, _text(source) or shortcut.source, given)
        )
        data[shortcut.minted] = Raw(msgspec.json.encode(name))
    if shortcut is RETRACTIONS and "feedback_source" not in data:
        data["feedback_source"] = source or Raw(msgspec.json.encode(FEEDBACK.source))
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": event_id if id_ is None else id_,
        "source": shortcut.source if source is None else source,
        "type": shortcut.type,
    }
    if time is not None:
        event["time"] = time
    event["data"] = data
    return msgspec.json.encode(event)


def names_of(event: bytes) -> dict[str, str]:
    """The names that an accepted event of `compose_event` carries."""
    data = msgspec.json.decode(event, type=_Composed).data
    return {name: text for name in NAMES if (text := _text(data.get(name))) is not None}


class _Composed(Struct):
    data: dict[str, Raw]
