"""The real HTTP application over a log in memory, called in process."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Sequence
from typing import Any

import httpx
import msgspec
from litestar import Litestar

from api.http.app import create_app
from api.http.metrics import HttpMetrics
from api.http.ports import RejectedEntries
from ingest.keys import DEFAULT_SCOPES, HashedKeys, IssuedKeys, key_hash
from ingest.memory import MemoryEventLog
from ingest.ports import Appended, EventLog
from ingest.settings import IngestSettings
from schemas.codec import decode_event, decode_payload
from schemas.envelope import Event
from schemas.errors import Fatal, Retryable
from schemas.ids import uuid7
from schemas.lifecycle_state import apply
from schemas.registry import BY_NAME
from schemas.rejections import EventRejected
from schemas.tenant_state import LifecycleState, VersionState
from schemas.topics import LIFECYCLE

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
ACME = {"authorization": "Bearer acme-key"}
ADMIN = {"authorization": "Bearer admin-key"}
OTHER = {"x-api-key": "other-key"}
ONE = {**ACME, "content-type": "application/cloudevents+json"}
BATCH = {**ACME, "content-type": "application/cloudevents-batch+json"}


class Serving:
    """A lifecycle that was read: states by tenant."""

    def __init__(self) -> None:
        self.caught_up = True
        self.states: dict[str, LifecycleState] = {}

    def current(self, tenant: str) -> LifecycleState:
        return self.states.get(tenant, LifecycleState())


def champion(version: str) -> LifecycleState:
    """A tenant that is served one version."""
    state = VersionState(
        version=version,
        stage="champion",
        manifest_hash="00",
        origin="base",
        parent="",
        dataset_id="",
        proposed_by="p-1",
    )
    return LifecycleState(base=version, champion=version, versions={version: state})


class FollowedLog(MemoryEventLog):
    """A log whose lifecycle is read as it is written."""

    def __init__(self, serving: Serving, keys: IssuedKeys) -> None:
        super().__init__()
        self._serving = serving
        self._keys = keys

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        for event in events:
            if BY_NAME[event.type].topic == LIFECYCLE:
                state, outcome = apply(self._serving.current(event.tenant), event)
                self._serving.states[event.tenant] = state
                self._keys.take(event, outcome, state)
        return await super().append(events)


class Full:
    """A log with too many bytes in flight."""

    async def append(self, events: Sequence[Event]) -> Sequence[Appended]:
        raise Retryable("full", retry_after_s=2.5)


class Site:
    """An application with its ports in reach."""

    def __init__(
        self,
        settings: IngestSettings | None = None,
        log: EventLog | None = None,
        rejected: RejectedEntries | None = None,
    ) -> None:
        #: What the clock of the doors shows.
        self.time = NOW
        self.serving = Serving()
        self.keys = IssuedKeys(
            HashedKeys(
                [
                    ("acme", key_hash("acme-key"), DEFAULT_SCOPES),
                    ("other", key_hash("other-key"), DEFAULT_SCOPES),
                    ("acme", key_hash("read-only"), ("read",)),
                    ("acme", key_hash("admin-key"), ("administer",)),
                    ("other", key_hash("other-admin"), ("administer",)),
                ]
            )
        )
        self.keys.follow(lambda: self.serving.caught_up)
        self.log = FollowedLog(self.serving, self.keys)
        #: Where the doors append.
        self.event_log: EventLog = log or self.log
        self.metrics = HttpMetrics()
        self.fatal: list[Fatal] = []
        numbers = itertools.count(1)
        self.app: Litestar = create_app(
            event_log=self.event_log,
            keys=self.keys,
            serving=self.serving,
            settings=settings or IngestSettings(),
            now=lambda: self.time,
            mint=lambda: uuid7(1_772_443_800_000 + next(numbers), bytes(10)),
            code_version="0.1.0",
            metrics=self.metrics,
            rejected=rejected,
            on_fatal=self.fatal.append,
        )

    def client(self, **settings: Any) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://ratchet", **settings)

    async def send(
        self, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        headers = ACME if headers is None else headers
        if body is not None and "content-type" not in headers:
            headers = {**headers, "content-type": "application/json"}
        async with self.client() as client:
            return await client.request(method, path, content=content, headers=headers)

    def events(self, topic: str = "interactions") -> list[Event]:
        return [decode_event(value) for _, value in self.log.records.get(topic, ())]

    def rejections(self) -> list[EventRejected]:
        return [msgspec.convert(decode_payload(event), EventRejected) for event in self.events("rejected")]


def query(number: int = 1, **changes: object) -> dict[str, Any]:
    """A valid CloudEvent."""
    return {
        "specversion": "1.0",
        "id": f"e-{number}",
        "source": "urn:app",
        "type": "ratchet.query.asked.v1",
        "time": "2026-03-02T09:29:59Z",
        "data": {"query_id": f"q-{number}", "text": "how do I pay"},
        **changes,
    }
