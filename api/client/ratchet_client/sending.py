"""The thread of an outbox: posts batch after batch, and says what became of each."""

from __future__ import annotations

import datetime as dt
import json
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from ratchet_client.backlog import Backlog, Hand, Limits
from ratchet_client.delivery import Verdict, judge
from ratchet_client.errors import ClientError, Refusal
from ratchet_client.retrying import Retries
from ratchet_client.wire import batch_of

OnRefused = Callable[[Refusal, Mapping[str, Any]], None]

_log = logging.getLogger("ratchet_client")
#: A `Retry-After` is kept to up to this many seconds.
_LONGEST_ASKED_S = 300.0


class Delivery:
    """Posts the batches of a backlog to one server. `run` is for one thread at a time."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        timeout_s: float,
        limits: Limits,
        on_refused: OnRefused | None,
        transport: httpx.BaseTransport | None,
    ) -> None:
        self._url = url.rstrip("/")
        try:
            known = httpx.URL(url).scheme in ("http", "https")
        except httpx.InvalidURL:
            known = False
        if not known:
            raise ClientError(f"expected a URL such as http://127.0.0.1:8000, got {url!r}")
        if not (key.isascii() and key.isprintable()):
            raise ClientError("expected a key of printable ASCII characters, as it was issued")
        self._headers = {"authorization": f"Bearer {key}"}
        self._timeout_s = timeout_s
        self._waits = Retries(longest_wait_s=limits.longest_wait_s)
        self._on_refused = on_refused
        self._transport = transport
        self.reset()

    def reset(self) -> None:
        """Forget what was; connections that a fork shares with its parent are left to it."""
        self.accepted = 0
        self.refused = 0
        #: Why nothing can be sent now; '' if all is well.
        self.trouble = ""
        self._failed = 0

    def run(self, backlog: Backlog) -> None:
        """Send until the backlog says stop. An error in here loses nothing: the batch is sent again."""
        with httpx.Client(timeout=self._timeout_s, transport=self._transport) as http:
            while True:
                try:
                    hand = backlog.hold()
                    if hand is None:
                        return
                    self._send(backlog, hand, http)
                except Exception:
                    _log.exception("the outbox goes on after an error")
                    backlog.pause(1.0, asked=False)

    def _send(self, backlog: Backlog, hand: Hand, http: httpx.Client) -> None:
        """Post the first batch of the hand, and wait if that is the answer."""
        lines = hand.batches[0]
        step = batch_of(lines)
        headers = {**self._headers, "content-type": step.content_type}
        try:
            answer: httpx.Response | httpx.TransportError = http.request(
                step.method, f"{self._url}{step.path}", headers=headers, content=step.body
            )
        except httpx.TransportError as error:
            answer = error
        verdict = judge(lines, answer, dt.datetime.now(dt.UTC))
        # Before it counts as settled: after a flush everything was told.
        self.accepted += verdict.accepted
        for refusal, line in verdict.refused:
            self.refused += 1
            self._tell(refusal, json.loads(line))
        self._note(verdict)
        if backlog.apply(hand, verdict) and self.trouble:
            asked_s = min(verdict.asked_s, _LONGEST_ASKED_S)
            own_s = self._waits.wait_s(min(self._failed, 20), 0.0, random.random)
            backlog.pause(max(own_s, asked_s), asked=asked_s > own_s)

    def _tell(self, refusal: Refusal, event: Mapping[str, Any]) -> None:
        if self._on_refused is None:
            _log.error(
                "event %r (%s) was refused: %s in %s: %s",
                refusal.id, refusal.source, refusal.reason, refusal.field or "the event", refusal.message,
            )  # fmt: skip
            return
        try:
            self._on_refused(refusal, event)
        except Exception:
            _log.exception("on_refused failed for event %r", refusal.id)

    def _note(self, verdict: Verdict) -> None:
        """Tell of trouble when it begins and ends."""
        if verdict.trouble not in ("later", "stuck"):
            if self.trouble:
                _log.warning("events can be sent again (before: %s)", self.trouble)
            self.trouble, self._failed = "", 0
            return
        if not self.trouble or (verdict.trouble == "stuck" and self.trouble != verdict.detail):
            # Once, not with every attempt: an outage is long.
            if verdict.trouble == "stuck":
                _log.error("events are kept and not sent until this is mended: %s", verdict.detail)
            else:
                _log.warning("events cannot be sent now, and are kept: %s", verdict.detail)
        self.trouble = verdict.detail
        self._failed += 1
