"""What each method sends and what it returns, without sending: both clients run the same plans."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec
from urllib.parse import quote

from ratchet_client import events
from ratchet_client.results import (
    Attribute,
    Found,
    FoundDocument,
    Receipt,
    Sent,
    Serving,
    known_fields,
    read_exposures,
    sent_of,
    serving_of,
)
from ratchet_client.wire import (
    Answered,
    Event,
    Json,
    Plan,
    Sender,
    Step,
    batches,
    mint_id,
    object_of,
    stored_ids,
)

P = ParamSpec("P")


def send(sender: Sender, events: Iterable[Event]) -> Plan[Receipt]:
    """Send CloudEvents, as many as there are; absent `id`, `source`, `specversion` and `time` are filled in.

    Raises Refused after everything was sent, if some events were rejected.
    """
    whole = [sender.completed(event) for event in events]
    return Plan(list(batches(whole)), lambda answers: Receipt(stored_ids(answers)))


def documents(sender: Sender, many: Iterable[Mapping[str, Any]]) -> Plan[Receipt]:
    """Store documents: mappings with `document_id`, `text` and, if there are, `title` and `fields`."""
    return send(sender, events.documents(sender, many))


def _sent(build: Callable[Concatenate[Sender, P], Json]) -> Callable[Concatenate[Sender, P], Plan[Sent]]:
    """The plan that sends the one event that is built so."""

    @functools.wraps(build)
    def plan(sender: Sender, /, *args: P.args, **kwargs: P.kwargs) -> Plan[Sent]:
        event = build(sender, *args, **kwargs)

        def finish(answers: Sequence[Answered]) -> Sent:
            stored_ids(answers)
            return sent_of(event)

        return Plan(list(batches([event])), finish)

    return plan


query = _sent(events.query)
retrieval = _sent(events.retrieval)
answer = _sent(events.answer)
feedback = _sent(events.feedback)
click = _sent(events.click)
thumb = _sent(events.thumb)
retract = _sent(events.retract)
document = _sent(events.document)
remove_document = _sent(events.remove_document)


def search(
    _sender: Sender,
    text: str,
    *,
    k: int = 10,
    query_id: str | None = None,
    user: str | None = None,
    session: str | None = None,
    device: str | None = None,
    attributes: Mapping[str, Attribute] | None = None,
    explore: bool = True,
) -> Plan[Found]:
    """Search. Query and list are reported by the search process itself; only feedback is left to report."""
    body = {
        "text": text,
        "k": k,
        "query_id": query_id or mint_id(),
        "user": user,
        "session": session,
        "device": device,
        "attributes": dict(attributes or {}),
        "explore": explore,
    }
    body = {name: value for name, value in body.items() if value is not None}

    def finish(answers: Sequence[Answered]) -> Found:
        found = object_of(answers, 200)
        hits = tuple(FoundDocument(**known_fields(FoundDocument, hit)) for hit in found["hits"])
        return Found(**{**known_fields(Found, found), "hits": hits, "exposures": read_exposures(found)})

    return Plan([Step("POST", "/v1/search", json.dumps(body).encode(), search=True)], finish)


def serving(_sender: Sender, unit: str | None = None) -> Plan[Serving]:
    """Which version to serve to a unit (user, else session, else device), and what to prepare.

    Without a unit: the champion, and the rules by which units are assigned.
    """

    def finish(answers: Sequence[Answered]) -> Serving:
        return serving_of(object_of(answers, 200))

    asked = "" if unit is None else f"?unit={quote(unit, safe='')}"
    return Plan([Step("GET", f"/v1/serving{asked}")], finish)


def ready(_sender: Sender, version: str, *, by: str = "application") -> Plan[None]:
    """Say that a version can be served."""
    body = json.dumps({"by": by}).encode()

    def finish(answers: Sequence[Answered]) -> None:
        object_of(answers, 202)

    return Plan([Step("POST", f"/v1/versions/{quote(version, safe='')}/ready", body)], finish)
