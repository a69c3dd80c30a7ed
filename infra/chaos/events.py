"""Events as an application makes them, with their content hashes; written with the standard library only.

So what clients believe to have sent is computed by other code than what is stored.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import random
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from infra.chaos.ledger import Sent

ASKED: Final = "ratchet.query.asked.v1"
SERVED: Final = "ratchet.retrieval.served.v1"
ANSWERED: Final = "ratchet.answer.given.v1"
FEEDBACK: Final = "ratchet.feedback.given.v1"
RETRACTED: Final = "ratchet.feedback.retracted.v1"
_DOCUMENTS: Final = 40


class Made(NamedTuple):
    """An event: what the ledger says of it, and the CloudEvent."""

    sent: Sent
    body: dict[str, Any]


def make(source: str, id: str, type: str, time: dt.datetime, data: Mapping[str, Any]) -> Made:
    """A valid event."""
    moment = time.astimezone(dt.UTC).isoformat(timespec="microseconds")
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    hashed = hashlib.sha256(b"\x1f".join((type.encode(), moment.encode(), canonical.encode()))).hexdigest()
    body = {"specversion": "1.0", "id": id, "source": source, "type": type, "time": moment, "data": data}
    return Made(Sent(str(data["query_id"]), id, hashed, type), body)


def ask(source: str, query_id: str, time: dt.datetime, dice: random.Random) -> Made:
    """A question of one of a few users."""
    data = {
        "query_id": query_id,
        "text": f"Wie geht das, № {dice.randrange(1000)}?",
        "user": f"u{dice.randrange(60)}",
    }
    return make(source, f"{query_id}-asked", ASKED, time, data)


def serve(source: str, query_id: str, time: dt.datetime, dice: random.Random) -> Made:
    """Its list."""
    documents = dice.sample(range(_DOCUMENTS), k=dice.randint(1, 8))
    hits = [{"document_id": f"d{d}", "rank": rank} for rank, d in enumerate(documents, 1)]
    data = {"query_id": query_id, "retrieval_id": f"r-{query_id}", "hits": hits, "latency_ms": 7.5}
    return make(source, f"{query_id}-served", SERVED, time, data)


def reply(source: str, query_id: str, time: dt.datetime, dice: random.Random) -> Made:
    """An answer."""
    data = {
        "query_id": query_id,
        "answer_id": f"a-{query_id}",
        "text": "So.",
        "input_tokens": dice.randint(1, 900),
    }
    return make(source, f"{query_id}-answered", ANSWERED, time, data)


def rate(source: str, query_id: str, number: int, time: dt.datetime, dice: random.Random) -> Made:
    """The nth feedback to a query."""
    kind = dice.choice(("click", "click", "thumb", "dwell"))
    target = {"kind": "document", "document_id": f"d{dice.randrange(_DOCUMENTS)}"}
    data: dict[str, Any] = {"query_id": query_id, "kind": kind, "target": target}
    if kind != "click":
        data["value"] = {"thumb": dice.choice((1.0, -1.0)), "dwell": dice.choice((2.0, 40.5))}[kind]
    return make(source, f"{query_id}-f{number}", FEEDBACK, time, data)


def retract(source: str, feedback: Sent, time: dt.datetime) -> Made:
    """A retraction of feedback."""
    data = {"query_id": feedback.query_id, "feedback_source": source, "feedback_id": feedback.id}
    return make(source, f"{feedback.id}-retracted", RETRACTED, time, data)


def contradict(made: Made, source: str, time: dt.datetime) -> Made:
    """The same identity with another time, so with other content."""
    return make(source, made.sent.id, made.sent.type, time, made.body["data"])


def spoil(made: Made, dice: random.Random) -> Made:
    """An event that no door may take, under an identity of its own."""
    body = {**made.body, "id": f"{made.sent.id}-bad{dice.randrange(1 << 30)}"}
    match dice.randrange(4):
        case 0:
            body["type"] = "ratchet.nothing.happened.v1"
        case 1:
            body["data"] = {"query_id": made.sent.query_id, "nobody": "knows this field"}
        case 2:
            body["time"] = "2500-01-01T00:00:00Z"
        case _:
            body["data"] = "no object"
    return Made(Sent(made.sent.query_id, str(body["id"]), "", made.sent.type), body)
