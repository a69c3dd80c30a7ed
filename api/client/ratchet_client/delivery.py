"""What the answer to a batch means for each of its events: settled, told of, sent again, or kept."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import httpx

from ratchet_client.errors import Refusal
from ratchet_client.retrying import AGAIN, retry_after_s
from ratchet_client.wire import refusal_of

#: later: it may pass by itself. stuck: somebody has to mend something, a key or a URL; nothing is lost.
#: halve: the batch as a whole is not taken; a part of it may be.
Trouble = Literal["", "later", "stuck", "halve"]


@dataclass(frozen=True)
class Verdict:
    """What became of a batch. `again` are the lines that are not settled.

    `set_aside` are refused events that the server did not keep; of the other refused ones it has the bytes.
    """

    accepted: int = 0
    refused: tuple[tuple[Refusal, bytes], ...] = ()
    set_aside: tuple[bytes, ...] = ()
    again: tuple[bytes, ...] = ()
    trouble: Trouble = ""
    detail: str = ""
    #: The `Retry-After` of the answer; 0 without one.
    asked_s: float = 0.0


def judge(lines: Sequence[bytes], answer: httpx.Response | httpx.TransportError, now: dt.datetime) -> Verdict:
    """The verdict on a batch of written events."""
    if isinstance(answer, httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Verdict(again=tuple(lines), trouble="stuck", detail=f"this request cannot be sent: {answer}")
    if isinstance(answer, httpx.TransportError):
        return Verdict(again=tuple(lines), trouble="later", detail=f"{type(answer).__name__}: {answer}")
    body = _object(answer)
    if answer.status_code in (202, 207, 422, 503) and isinstance(body.get("results"), list):
        return _by_event(lines, body["results"], answer, now)
    told = str(body.get("detail") or answer.text[:300] or "no detail was given")
    detail = f"HTTP {answer.status_code}: {told}"
    if answer.status_code in AGAIN:
        return Verdict(again=tuple(lines), trouble="later", detail=detail, asked_s=retry_after_s(answer, now))
    if answer.status_code == 413 or (answer.status_code in (400, 422) and _is_ours(body)):
        # Something between us and the server may bound bodies, too; but only the server itself can say that
        # an event is wrong.
        return _not_taken(lines, answer.status_code, told, detail)
    return Verdict(again=tuple(lines), trouble="stuck", detail=detail)


def _object(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _is_ours(body: Mapping[str, Any]) -> bool:
    return str(body.get("type", "")).startswith("urn:ratchet:problem:")


def _by_event(
    lines: Sequence[bytes], results: Sequence[Any], answer: httpx.Response, now: dt.datetime
) -> Verdict:
    """Results by event. What no result speaks of is sent again."""
    accepted, refused, settled = 0, [], set()
    for result in results:
        index = result.get("index") if isinstance(result, dict) else None
        if not isinstance(index, int) or not 0 <= index < len(lines) or index in settled:
            continue
        if result.get("status") == "accepted":
            accepted += 1
        elif result.get("status") == "rejected":
            refused.append((refusal_of(result), lines[index]))
        else:
            continue
        settled.add(index)
    again = tuple(line for index, line in enumerate(lines) if index not in settled)
    return Verdict(
        accepted=accepted,
        refused=tuple(refused),
        again=again,
        trouble="later" if again else "",
        detail=f"HTTP {answer.status_code}: {len(again)} events are not confirmed" if again else "",
        asked_s=retry_after_s(answer, now),
    )


def _not_taken(lines: Sequence[bytes], status: int, told: str, detail: str) -> Verdict:
    if len(lines) > 1:
        return Verdict(again=tuple(lines), trouble="halve", detail=detail)
    event = json.loads(lines[0])
    reason = "too_large" if status == 413 else f"http_{status}"
    refusal = Refusal(str(event.get("id", "")), str(event.get("source", "")), reason, "", told)
    return Verdict(refused=((refusal, lines[0]),), set_aside=tuple(lines))
