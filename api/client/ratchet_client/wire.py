"""Requests and answers: events in batches, results by event."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Generic, TypeVar

from ratchet_client.errors import ClientError, Refusal, Refused, RequestFailed

R = TypeVar("R")
Event = Mapping[str, Any]
Json = dict[str, Any]
EVENTS_PATH = "/v1/events"
DEFAULT_SOURCE = "urn:ratchet:client"

#: A request holds at most this many events, and about this many bytes.
MAX_EVENTS = 500
MAX_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Step:
    """One request. `search` says that it goes to the search process."""

    method: str
    path: str
    body: bytes | None = None
    content_type: str = "application/json"
    search: bool = False


@dataclass(frozen=True)
class Answered:
    """A decoded answer."""

    status: int
    body: Any


@dataclass(frozen=True)
class Plan(Generic[R]):
    """Requests in order, and what their answers mean. `finish` may raise Refused or RequestFailed."""

    steps: Sequence[Step]
    finish: Callable[[Sequence[Answered]], R]


@dataclass(frozen=True)
class Sender:
    """Who sends: the CloudEvents source of events. None: a source for each kind of event.

    Source and id name an event within its query. With a source for each kind an application may use one id,
    such as that of its own request, for a query, its list and its answer, and they stay three events.
    """

    source: str | None = None

    def source_of(self, short: str) -> str:
        """The source of events of this kind: `urn:ratchet:client:query.asked`.

        Feedback keeps `urn:ratchet:client`: what an older client sent under that name can be taken back.
        """
        if self.source is not None:
            return self.source
        return DEFAULT_SOURCE if short == "feedback.given" else f"{DEFAULT_SOURCE}:{short}"

    def completed(self, event: Event) -> Json:
        """A CloudEvent of the caller with an id, a source and a time where it has none."""
        short = str(event.get("type", "")).removeprefix("ratchet.").removesuffix(".v1")
        return {
            "specversion": "1.0",
            "id": mint_id(),
            "source": self.source_of(short),
            "time": dt.datetime.now(dt.UTC).isoformat(),
            **event,
        }

    def event(
        self, short: str, data: Mapping[str, Any], id: str | None, time: dt.datetime | None
    ) -> dict[str, Any]:
        """A CloudEvent with an id and a time; fields that are None are left out."""
        return {
            "specversion": "1.0",
            "id": id or mint_id(),
            "source": self.source_of(short),
            "type": f"ratchet.{short}.v1",
            "time": (time or dt.datetime.now(dt.UTC)).isoformat(),
            "data": {name: value for name, value in data.items() if value is not None},
        }


def mint_id() -> str:
    """A UUIDv7 (RFC 9562 §5.7): later ids sort after earlier ones."""
    value = time.time_ns() // 1_000_000 << 80 | int.from_bytes(os.urandom(10))
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def batches(events: Iterable[Event]) -> Iterator[Step]:
    """The requests that send these events, within the limits of a request.

    Raises ClientError if an event cannot be written as JSON: a server would refuse all of its request.
    """
    parts: list[bytes] = []
    length = 0
    for event in events:
        part = written(event)
        if parts and (len(parts) >= MAX_EVENTS or length + len(part) > MAX_BYTES):
            yield batch_of(parts)
            parts, length = [], 0
        parts.append(part)
        length += len(part) + 1
    if parts:
        yield batch_of(parts)


def written(event: Event) -> bytes:
    """The event as JSON on one line. Raises ClientError if it cannot be written."""
    try:
        return json.dumps(event, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise ClientError(
            f"event {event.get('id')!r} cannot be written as JSON ({error}): mend it; nothing was sent"
        ) from error


def batch_of(parts: Sequence[bytes]) -> Step:
    """The request that sends these written events."""
    return Step("POST", EVENTS_PATH, b"[" + b",".join(parts) + b"]", "application/cloudevents-batch+json")


def unconfirmed(steps: Sequence[Step], answers: Sequence[Answered]) -> tuple[Event, ...]:
    """Events of the requests, in order, whose answer does not say what became of each, or never came."""
    return tuple(
        event
        for step, answer in zip_longest(steps, answers)
        if step.path == EVENTS_PATH and step.body is not None
        if answer is None or not is_by_event(answer)
        for event in json.loads(step.body)
    )


def stored_ids(answers: Sequence[Answered]) -> tuple[str, ...]:
    """Ids of the accepted events of every answer. Raises Refused if any was rejected."""
    results = [result for answer in answers for result in _results(answer)]
    refusals = [refusal_of(result) for result in results if result["status"] == "rejected"]
    stored = tuple(result["id"] for result in results if result["status"] == "accepted")
    if refusals:
        raise Refused(refusals, len(stored))
    return stored


def refusal_of(result: Mapping[str, Any]) -> Refusal:
    """A rejected event, from its result."""
    return Refusal(**{name: result.get(name, "") for name in Refusal.__dataclass_fields__})


def is_by_event(answer: Answered) -> bool:
    """Whether an answer says of each event what became of it, for good."""
    return answer.status in (202, 207, 422) and isinstance(answer.body, dict) and "results" in answer.body


def _results(answer: Answered) -> Sequence[Mapping[str, Any]]:
    if is_by_event(answer):
        results: Sequence[Mapping[str, Any]] = answer.body["results"]
        return results
    raise _failure(answer)


def _failure(answer: Answered) -> ClientError:
    detail = answer.body.get("detail") if isinstance(answer.body, dict) else None
    return RequestFailed(answer.status, str(detail or answer.body or "no detail was given")[:500])


def object_of(answers: Sequence[Answered], *expected: int) -> Json:
    """The body of the one answer. Raises RequestFailed if its status is another."""
    (answer,) = answers
    if answer.status in expected and isinstance(answer.body, dict):
        return answer.body
    raise _failure(answer)
