"""Telling somebody: a POST as Alertmanager's webhook receivers know it, signed, sent until it is taken.

One request has all that is said of one alert: every set of labels for which it is raised, and those that have
ended since the last request that was taken. What a receiver gets twice has the same fingerprint and
`startsAt`. `Ratchet-Timestamp` is the time of the attempt, seconds since 1970; `Ratchet-Signature` is
`sha256=` and the HMAC-SHA256, in hex, of the timestamp, a full stop and the body.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import httpx
import msgspec
import structlog
from prometheus_client import CollectorRegistry

from api.alerts.firing import Raised
from api.alerts.promql import quoted
from api.http.metrics import make_metric
from schemas import telemetry

log = structlog.get_logger(__name__)

TIMESTAMP_HEADER: Final = "Ratchet-Timestamp"
SIGNATURE_HEADER: Final = "Ratchet-Signature"
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 60.0
#: Alertmanager's way to say that an alert has not ended.
_NOT_ENDED: Final = "0001-01-01T00:00:00Z"


class Notice(NamedTuple):
    """What is to be said of one alert with one set of labels; `ended_at_s` is None while it is raised."""

    raised: Raised
    ended_at_s: float | None = None

    @property
    def phase(self) -> tuple[float, float | None]:
        """Two notices that differ in this say different things."""
        return self.raised.since_s, self.ended_at_s


class WebhookRefused(Exception):
    """The receiver did not take a request; it is sent again."""


class Webhook:
    """Keeps what has to be told and tells it, alert by alert. For one event loop.

    Guarantees, while the process lives: every raise and every end is delivered, in order for one alert. Of
    one that ended before the receiver took its raise only the end is told, with when it began. Memory is
    bounded by the sets of labels. A process that starts again tells of everything that is raised then.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        url: str,
        secret: str,
        registry: CollectorRegistry,
        *,
        repeat_s: float,
        first_pause_s: float = _FIRST_PAUSE_S,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`secret`: '' leaves requests unsigned. `repeat_s`: what stays raised is told again after this."""
        self._client = client
        self._url = url
        self._secret = secret
        self._repeat_s = repeat_s
        self._first_pause_s = first_pause_s
        self._clock = clock
        self._deliveries = make_metric(telemetry.ALERT_DELIVERIES, registry)
        self._notices: dict[str, Notice] = {}
        #: Alerts of which something new is to be told.
        self._due: set[str] = set()
        self._told_at_s: dict[str, float] = {}
        self._wake = asyncio.Event()

    def update(self, raised: Mapping[str, Raised], time_s: float) -> None:
        """What is raised now."""
        for key, one in raised.items():
            before = self._notices.get(key)
            self._notices[key] = Notice(one)
            if before is None or before.phase != self._notices[key].phase:
                self._due.add(one.alert.name)
        for key, notice in self._notices.items():
            if key not in raised and notice.ended_at_s is None:
                self._notices[key] = Notice(notice.raised, time_s)
                self._due.add(notice.raised.alert.name)
        self._due |= {
            one.alert.name
            for one in raised.values()
            if time_s - self._told_at_s.get(one.alert.name, time_s) >= self._repeat_s
        }
        if self._due:
            self._wake.set()

    async def run(self) -> None:
        """Deliver what is due, for ever; after a failure, again after growing pauses."""
        pause_s = self._first_pause_s
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                for name in sorted(self._due):
                    await self._tell(name)
                pause_s = self._first_pause_s
            except WebhookRefused as error:
                log.warning("the webhook did not take an alert", why=str(error), pause_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
                self._wake.set()

    async def _tell(self, name: str) -> None:
        """One request about one alert. Raises WebhookRefused."""
        told = {key: one for key, one in self._notices.items() if one.raised.alert.name == name}
        body = alertmanager_body([told[key] for key in sorted(told)])
        headers = {"content-type": "application/json", **signature(self._secret, int(self._clock()), body)}
        try:
            answer = await self._client.post(self._url, content=body, headers=headers)
            if not answer.is_success:
                raise WebhookRefused(f"{self._url} answered {answer.status_code}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._deliveries.labels("failed").inc()
            raise WebhookRefused(f"{self._url}: {error!r}") from error
        except WebhookRefused:
            self._deliveries.labels("failed").inc()
            raise
        self._deliveries.labels("delivered").inc()
        self._told_at_s[name] = self._clock()
        news = False
        for key, notice in list(self._notices.items()):
            if notice.raised.alert.name != name:
                continue
            if key not in told or notice.phase != told[key].phase:
                news = True  # it came, ended or came again while the request was under way
            elif notice.ended_at_s is not None:
                del self._notices[key]
        if news:
            self._wake.set()
        else:
            self._due.discard(name)


def signature(secret: str, timestamp_s: int, body: bytes) -> dict[str, str]:
    """The headers by which a receiver knows who sent it, and when; without a secret only when."""
    headers = {TIMESTAMP_HEADER: str(timestamp_s)}
    if secret:
        digest = hmac.new(secret.encode(), f"{timestamp_s}.".encode() + body, hashlib.sha256).hexdigest()
        headers[SIGNATURE_HEADER] = f"sha256={digest}"
    return headers


def alertmanager_body(notices: Sequence[Notice]) -> bytes:
    """Alertmanager's webhook format, version 4, for notices of one alert."""
    alerts = [_described(notice) for notice in notices]
    name = notices[0].raised.alert.name
    firing = any(alert["status"] == "firing" for alert in alerts)
    return msgspec.json.encode(
        {
            "version": "4",
            "groupKey": f"{{}}:{{alertname={quoted(name)}}}",
            "truncatedAlerts": 0,
            "status": "firing" if firing else "resolved",
            "receiver": "ratchet",
            "groupLabels": {"alertname": name},
            "commonLabels": _common([alert["labels"] for alert in alerts]),
            "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
            "externalURL": "",
            "alerts": alerts,
        }
    )


def _described(notice: Notice) -> dict[str, Any]:
    raised = notice.raised
    labels = {**raised.labels, "alertname": raised.alert.name, "severity": raised.alert.severity}
    return {
        "status": "firing" if notice.ended_at_s is None else "resolved",
        "labels": labels,
        "annotations": {"summary": raised.summary, "runbook_url": raised.alert.runbook},
        "startsAt": _moment(raised.since_s),
        "endsAt": _NOT_ENDED if notice.ended_at_s is None else _moment(notice.ended_at_s),
        "generatorURL": "",
        "fingerprint": fingerprint(labels),
    }


def _common(many: Sequence[Mapping[str, str]]) -> dict[str, str]:
    return {name: value for name, value in many[0].items() if all(one.get(name) == value for one in many)}


def _moment(time_s: float) -> str:
    return dt.datetime.fromtimestamp(time_s, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def fingerprint(labels: Mapping[str, str]) -> str:
    """Prometheus' fingerprint of a set of labels: FNV-1a, 64 bits, over sorted names and values."""
    value = 0xCBF29CE484222325
    for name, text in sorted(labels.items()):
        for part in (name, text):
            for byte in (*part.encode(), 0xFF):
                value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"
