"""What each report says: the event of every kind, with its id and its time, without sending."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Literal

from ratchet_client.results import Attribute, Exposure, Hit
from ratchet_client.wire import Json, Sender, mint_id


def query(
    sender: Sender,
    text: str,
    *,
    query_id: str | None = None,
    user: str | None = None,
    session: str | None = None,
    device: str | None = None,
    attributes: Mapping[str, Attribute] | None = None,
    exposures: Sequence[Exposure] = (),
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Report that somebody asked. `exposures`: exactly what `serving` said for this unit."""
    data = {
        "query_id": query_id or mint_id(),
        "text": text,
        "user": user,
        "session": session,
        "device": device,
        "attributes": None if attributes is None else dict(attributes),
        "exposures": [asdict(exposure) for exposure in exposures] or None,
    }
    return sender.event("query.asked", data, id, time)


def retrieval(
    sender: Sender,
    query_id: str,
    hits: Sequence[Hit | str],
    *,
    retrieval_id: str | None = None,
    pipeline_version: str = "",
    shadow: bool = False,
    exploration: bool = False,
    latency_ms: float | None = None,
    error: str | None = None,
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Report a result list: hits, or document ids from the top down."""
    ranked = [Hit(hit, rank) if isinstance(hit, str) else hit for rank, hit in enumerate(hits, 1)]
    data = {
        "query_id": query_id,
        "retrieval_id": retrieval_id or mint_id(),
        "pipeline_version": pipeline_version,
        "hits": [{name: value for name, value in asdict(hit).items() if value is not None} for hit in ranked],
        "shadow": shadow,
        "exploration": exploration,
        "latency_ms": latency_ms,
        "error": error,
    }
    return sender.event("retrieval.served", data, id, time)


def answer(
    sender: Sender,
    query_id: str,
    text: str,
    *,
    answer_id: str | None = None,
    generator: str = "",
    citations: Sequence[str] = (),
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    cost_usd: float | None = None,
    latency_ms: float | None = None,
    cached: bool = False,
    error: str | None = None,
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Report a generated answer. `citations`: ids of the documents that it leans on."""
    data = {
        "query_id": query_id,
        "answer_id": answer_id or mint_id(),
        "text": text,
        "generator": generator,
        "citations": [{"document_id": document_id} for document_id in citations],
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_usd": cost_usd,
        "latency_ms": latency_ms,
        "cached": cached,
        "error": error,
    }
    return sender.event("answer.given", data, id, time)


def feedback(
    sender: Sender,
    query_id: str,
    kind: str,
    *,
    value: float | None = None,
    text: str | None = None,
    document_id: str | None = None,
    rank: int | None = None,
    retrieval_id: str | None = None,
    answer_id: str | None = None,
    rater: Literal["human", "llm", "code"] = "human",
    name: str = "",
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Report feedback of any kind, about the most specific of: document or rank, answer, list, the query."""
    if document_id is not None or rank is not None:
        about = "document"
    elif answer_id is not None:
        about = "answer"
    else:
        about = "query" if retrieval_id is None else "retrieval"
    target = {
        "kind": about,
        "document_id": document_id,
        "rank": rank,
        "retrieval_id": retrieval_id,
        "answer_id": answer_id,
    }
    data = {
        "query_id": query_id,
        "kind": kind,
        "target": {name: value for name, value in target.items() if value is not None},
        "value": value,
        "text": text,
        "rater": rater,
        "name": name,
    }
    return sender.event("feedback.given", data, id, time)


def click(
    sender: Sender,
    query_id: str,
    document_id: str,
    *,
    rank: int | None = None,
    retrieval_id: str | None = None,
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Report that a document was opened."""
    return feedback(
        sender,
        query_id,
        "click",
        document_id=document_id,
        rank=rank,
        retrieval_id=retrieval_id,
        id=id,
        time=time,
    )


def thumb(
    sender: Sender,
    query_id: str,
    *,
    up: bool,
    document_id: str | None = None,
    rank: int | None = None,
    retrieval_id: str | None = None,
    answer_id: str | None = None,
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Report a thumb, up or down."""
    return feedback(
        sender,
        query_id,
        "thumb",
        value=1 if up else -1,
        document_id=document_id,
        rank=rank,
        retrieval_id=retrieval_id,
        answer_id=answer_id,
        id=id,
        time=time,
    )


def retract(
    sender: Sender,
    query_id: str,
    feedback_id: str,
    *,
    feedback_source: str | None = None,
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Take feedback back, by the id of its event; by default feedback that this client sent."""
    data = {
        "query_id": query_id,
        "feedback_source": feedback_source or sender.source_of("feedback.given"),
        "feedback_id": feedback_id,
    }
    return sender.event("feedback.retracted", data, id, time)


def document(
    sender: Sender,
    document_id: str,
    text: str,
    *,
    title: str = "",
    fields: Mapping[str, Attribute] | None = None,
    id: str | None = None,
    time: dt.datetime | None = None,
) -> Json:
    """Store a document, new or with a new text."""
    data = {
        "document_id": document_id,
        "text": text,
        "title": title,
        "fields": None if fields is None else dict(fields),
    }
    return sender.event("document.stored", data, id, time)


def documents(sender: Sender, many: Iterable[Mapping[str, Any]]) -> list[Json]:
    """Store documents: mappings with `document_id`, `text` and, if there are, `title` and `fields`."""
    return [sender.event("document.stored", one, None, None) for one in many]


def remove_document(
    sender: Sender, document_id: str, *, id: str | None = None, time: dt.datetime | None = None
) -> Json:
    """Report that a document is gone."""
    return sender.event("document.removed", {"document_id": document_id}, id, time)
