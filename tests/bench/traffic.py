"""What the generator sends: stories of a question, its list of ten and a click, with ids that follow time."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections.abc import Iterator, Mapping
from itertools import count, cycle, islice
from pathlib import Path
from typing import Final

from msgspec import Struct

import infra.demo
from schemas.ids import uuid7
from tests.bench.connection import request_bytes

BATCH: Final = "application/cloudevents-batch+json"
ONE: Final = "application/cloudevents+json"
_SOURCE: Final = "urn:bench"
_DATA: Final = Path(infra.demo.__file__).parent / "data" / "banking77_faq"
_HITS: Final = 10


class Sent(Struct, frozen=True):
    """One event as it is sent."""

    query_id: str
    event_id: str
    body: bytes


def stories() -> Iterator[Sent]:
    """Events without end: asked, served, clicked; every id is unique and ids of later queries are greater."""
    asked = questions()
    start_ms = time.time_ns() // 1_000_000
    for number in count():
        query_id, retrieval_id, click_id = (uuid7(start_ms + number, os.urandom(10)) for _ in range(3))
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


def event_requests(url: str, key: str, requests: int, each: int) -> list[bytes]:
    """Requests with `each` events; a request of one is a single CloudEvent."""
    events = stories()
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
