"""User Behavior Insights 1.3: queries with the documents that they found, and what people did with them.

A piece with `action_name` is an event, one with `user_query` and without is a query.

Query: `query.asked` (user_query; user_id, session_id, client_id → user, session, device; query_attributes,
application, object_id_field → attributes) and, with `query_response_hit_ids`, `retrieval.served` in that
order from rank 1 on, under query_response_id or an id derived from its content. Without a query_id one is
derived from the content.

Event, on the document `event_attributes.object.object_id` at rank `position.ordinal`, which counts from 1:

action_name            becomes
click                  click
add_to_cart, purchase  label 1: a judgement by deed
thumbs_up, thumbs_down thumb (and their like)
impression             nothing: the retrieval says what was shown
any other              a score of 1 under its name, if it is on a document; else nothing

UBI joins by query_id: an event that would become something and names none is refused. Events and queries have
no ids: they are derived from the content, time included. A time without an offset is UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from ingest.formats.items import Item
from ingest.formats.judgements import Judgement, judge_result, plain_name
from ingest.formats.pieces import (
    Format,
    Piece,
    compose,
    content_id,
    decode_piece,
    flatten,
    instant,
    invalid,
    missing,
    reading,
    split_json,
)
from schemas.codec import canonical_json
from schemas.ids import derive_id
from schemas.interactions import (
    Attribute,
    FeedbackGiven,
    FeedbackKind,
    Hit,
    QueryAsked,
    RetrievalServed,
    Target,
)

SOURCE: Final = "urn:ratchet:ubi"
_DEEDS: Final = frozenset({"add-to-cart", "purchase"})
_THUMBS: Final = frozenset({"thumbs-up", "thumbs-down", "thumb-up", "thumb-down", "like", "dislike"})


class _Query(Struct, frozen=True):
    user_query: str
    query_id: str | None = None
    application: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    timestamp: str | None = None
    object_id_field: str | None = None
    query_attributes: dict[str, Any] | None = None
    query_response_id: str | None = None
    query_response_hit_ids: list[Annotated[str, Meta(min_length=1)]] | None = None


class _Position(Struct, frozen=True):
    ordinal: int | None = None


class _Object(Struct, frozen=True):
    object_id: str | int | None = None
    object_id_type: str | None = None
    object_id_field: str | None = None


class _EventAttributes(Struct, frozen=True):
    position: _Position | None = None
    object: _Object | None = None


class _Event(Struct, frozen=True):
    action_name: Annotated[str, Meta(min_length=1)]
    timestamp: str
    query_id: str | None = None
    application: str | None = None
    client_id: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    message_type: str | None = None
    message: str | None = None
    event_attributes: _EventAttributes | None = None


class _Shape(Struct):
    action_name: Any = None


_decode_query: Final = msgspec.json.Decoder(_Query).decode
_decode_event: Final = msgspec.json.Decoder(_Event).decode
_decode_shape: Final = msgspec.json.Decoder(_Shape).decode


def _read(piece: Piece) -> Sequence[Item]:
    if decode_piece(piece, _decode_shape, "a query or an event").action_name is None:
        return _read_query(
            decode_piece(piece, _decode_query, "a query (an event needs `action_name`)"), piece
        )
    return _read_event(decode_piece(piece, _decode_event, "an event"), piece)


def _read_query(query: _Query, piece: Piece) -> Sequence[Item]:
    time = instant(query.timestamp, "timestamp")
    query_id = query.query_id or content_id(SOURCE, "query_id", piece)
    attributes = {n: _plain(v) for n, v in (query.query_attributes or {}).items() if n and v is not None}
    asked = QueryAsked(
        query_id=query_id,
        text=query.user_query,
        user=query.user_id or None,
        session=query.session_id or None,
        device=query.client_id or None,
        attributes={
            **attributes,
            **_named(application=query.application, object_id_field=query.object_id_field),
        },
    )
    items: list[Item] = [compose(asked, source=SOURCE, id=content_id(SOURCE, "query", piece), time=time)]
    hits = query.query_response_hit_ids
    if hits is not None:
        found = canonical_json(hits).decode()
        served = RetrievalServed(
            query_id=query_id,
            retrieval_id=query.query_response_id or derive_id(SOURCE, "retrieval", query_id, found),
            hits=tuple(Hit(document_id, rank) for rank, document_id in enumerate(hits, 1)),
        )
        id_ = content_id(SOURCE, "retrieval", piece)
        items.append(compose(served, source=SOURCE, id=id_, time=time))
    return items


def _read_event(event: _Event, piece: Piece) -> Sequence[Item]:
    target = _target(event.event_attributes or _EventAttributes())
    judged = _judge(event.action_name, target)
    if judged is None:
        return []
    kind, value = judged
    if not event.query_id:
        raise missing(
            "query_id",
            "expected `query_id`: an event is joined to its query by it, and by nothing else; send the one "
            "that the search answered with",
        )
    if kind == "click" and target is None:
        raise missing(
            "event_attributes.object.object_id",
            "a click is on something: expected `event_attributes.object.object_id` or `position.ordinal`",
        )
    payload = FeedbackGiven(
        query_id=event.query_id,
        kind=kind,
        value=value,
        text=event.message or None,
        target=target or Target(),
        name="" if kind == "click" else event.action_name,
        attributes=_circumstances(event),
    )
    time = instant(event.timestamp, "timestamp")
    return [compose(payload, source=SOURCE, id=content_id(SOURCE, "event", piece), time=time)]


def _target(attributes: _EventAttributes) -> Target | None:
    rank = attributes.position.ordinal if attributes.position else None
    if rank is not None and rank < 1:
        raise invalid(
            "event_attributes.position.ordinal",
            f"expected the place in the list, which counts from 1, got {rank}; add 1 if yours count from 0",
        )
    id_ = attributes.object.object_id if attributes.object else None
    document_id = None if id_ is None or id_ == "" else str(id_)
    if document_id is None and rank is None:
        return None
    return Target(kind="document", document_id=document_id, rank=rank)


def _judge(action: str, target: Target | None) -> tuple[FeedbackKind, float | None] | None:
    """Kind and value of what was done; None if it says nothing to us."""
    plain = plain_name(action)
    if plain == "click":
        return "click", None
    if plain == "impression":
        return None
    if plain in _THUMBS:
        thumb = judge_result("thumb", plain, None)
        assert isinstance(thumb, Judgement)
        return thumb.kind, thumb.value
    if target is None:
        return None
    return ("label", 1.0) if plain in _DEEDS else ("score", 1.0)


def _circumstances(event: _Event) -> dict[str, Attribute]:
    thing = (event.event_attributes or _EventAttributes()).object or _Object()
    return _named(
        application=event.application,
        message_type=event.message_type,
        object_id_type=thing.object_id_type,
        object_id_field=thing.object_id_field,
    )


def _named(**texts: str | None) -> dict[str, Attribute]:
    return {name: text for name, text in texts.items() if text}


def _plain(value: Any) -> Attribute:
    (one,) = flatten("x", {"x": value}).values()
    return one


UBI: Final = Format(
    name="ubi",
    about="User Behavior Insights 1.3, queries and events",
    source=SOURCE,
    media_types=("application/json", "application/x-ndjson", "application/jsonl"),
    split=split_json,
    read=reading(_read),
    fields={
        "data.query_id": "query_id",
        "data.text": "user_query",
        "data.user": "user_id",
        "data.session": "session_id",
        "data.device": "client_id",
        "data.attributes": "query_attributes",
        "data.hits": "query_response_hit_ids",
        "data.retrieval_id": "query_response_id",
        "data.target.document_id": "event_attributes.object.object_id",
        "data.target.rank": "event_attributes.position.ordinal",
        "data.name": "action_name",
        "time": "timestamp",
    },
)
