"""What the generator sends: stories of a question, its list of ten and a click."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from itertools import count, cycle, islice
from pathlib import Path
from typing import Final, Literal

from msgspec import Struct

import infra.demo
from schemas.ids import uuid7
from tests.bench.connection import request_bytes

BATCH: Final = "application/cloudevents-batch+json"
ONE: Final = "application/cloudevents+json"
_SOURCE: Final = "urn:bench"
_DATA: Final = Path(infra.demo.__file__).parent / "data" / "banking77_faq"
_HITS: Final = 10
Ids = Literal["time", "random"]
#: Time of the first query of a filled store; one follows every millisecond.
STORED_SINCE_MS: Final = 1_750_000_000_000
#: `stored_id` as ClickHouse computes it, of a column `number`.
STORED_ID: Final[dict[Ids, str]] = {
    "random": "lower(hex(MD5(toString(number))))",
    "time": (
        "concat(substring(lower(leftPad(hex(toUInt64(1750000000000 + number)), 12, '0')) AS ms, -12, 8), "
        "'-', "
        "substring(ms, -4), '-7', substring(lower(hex(MD5(toString(number)))) AS digest, 1, 3), "
        "'-8', substring(digest, 4, 3), '-', substring(digest, 7, 12))"
    ),
}


class Late(Struct, frozen=True):
    """Feedback for old queries: after each `every`th story one, for one of `stored` queries."""

    every: int
    stored: int


class Sent(Struct, frozen=True):
    """One event as it is sent."""

    query_id: str
    event_id: str
    body: bytes


def stories(ids: Ids = "time", late: Late | None = None) -> Iterator[Sent]:
    """Events without end: asked, served, clicked; every id is unique.

    With ids that follow time, later queries have greater ones; random ones are as clients make them up. Of
    `late` some clicks are on queries that were stored long before.
    """
    asked = questions()
    start_ms = time.time_ns() // 1_000_000
    for number in count():
        if ids == "time":
            query_id, retrieval_id, click_id = (uuid7(start_ms + number, os.urandom(10)) for _ in range(3))
        else:
            query_id, retrieval_id, click_id = (os.urandom(16).hex() for _ in range(3))
        hits = [
            {"document_id": f"doc-{(number * 7 + rank) % 385}", "rank": rank, "score": round(0.9**rank, 4)}
            for rank in range(1, _HITS + 1)
        ]
        target = {"kind": "document", "retrieval_id": retrieval_id, "document_id": hits[0]["document_id"]}
        question = {"query_id": query_id, "text": asked[number % len(asked)], "user": f"u-{number % 5000}"}
        served = {"query_id": query_id, "retrieval_id": retrieval_id, "hits": hits, "latency_ms": 11.8}
        click = {"query_id": query_id, "kind": "click", "target": target | {"rank": 1}}
        yield _sent(query_id, query_id, "query.asked", question)
        yield _sent(query_id, retrieval_id, "retrieval.served", served | {"pipeline_version": "1.0.0"})
        yield _sent(query_id, click_id, "feedback.given", click)
        if late is not None and number % late.every == 0:
            earlier = stored_id(ids, int.from_bytes(os.urandom(6)) % late.stored)
            thumb = {"query_id": earlier, "kind": "thumb", "value": 1}
            yield _sent(earlier, os.urandom(16).hex(), "feedback.given", thumb)


def stored_id(ids: Ids, number: int) -> str:
    """The id of the query that a filled store has under this number; `STORED_ID` is the same in SQL."""
    digest = hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest()
    if ids == "random":
        return digest
    ms = f"{STORED_SINCE_MS + number:012x}"
    return f"{ms[:8]}-{ms[8:]}-7{digest[:3]}-8{digest[3:6]}-{digest[6:18]}"


def _sent(query_id: str, event_id: str, kind: str, data: Mapping[str, object]) -> Sent:
    event = {
        "specversion": "1.0",
        "id": event_id,
        "source": _SOURCE,
        "type": f"ratchet.{kind}.v1",
        "time": dt.datetime.now(dt.UTC).isoformat(),
        "data": data,
    }
    return Sent(query_id, event_id, json.dumps(event, separators=(",", ":")).encode())


def event_requests(
    url: str, key: str, requests: int, each: int, ids: Ids = "time", late: Late | None = None
) -> list[bytes]:
    """Requests with `each` events; a request of one is a single CloudEvent."""
    events = stories(ids, late)
    made = []
    for _ in range(requests):
        bodies = [event.body for event in islice(events, each)]
        body, kind = (bodies[0], ONE) if each == 1 else (b"[" + b",".join(bodies) + b"]", BATCH)
        made.append(request_bytes("POST", f"{url}/v1/events", f"Bearer {key}", body, kind))
    return made


def serving_requests(url: str, key: str, requests: int) -> list[bytes]:
    """`GET /v1/serving` for one unit after another."""
    return [
        request_bytes("GET", f"{url}/v1/serving?unit=u-{number}", f"Bearer {key}")
        for number in range(requests)
    ]


def search_requests(url: str, key: str, requests: int) -> list[bytes]:
    """`POST /v1/search`, each with another question and user."""
    return [
        request_bytes(
            "POST",
            f"{url}/v1/search",
            f"Bearer {key}",
            json.dumps({"text": text, "user": f"u-{number}"}).encode(),
            "application/json",
        )
        for number, text in enumerate(islice(cycle(questions()), requests))
    ]


def questions() -> list[str]:
    """Questions of the demo's data set."""
    with (_DATA / "queries.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def documents() -> list[str]:
    """Its 385 documents."""
    with (_DATA / "corpus.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def document_batch() -> bytes:
    """All documents as one batch of events."""
    events = [
        _sent("", f"stored-{number}", "document.stored", {"document_id": f"doc-{number}", "text": text}).body
        for number, text in enumerate(documents())
    ]
    return b"[" + b",".join(events) + b"]"
