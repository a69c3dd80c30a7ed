"""The webhook, against a real HTTP receiver that refuses, hangs, breaks off and then accepts."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from api.alerts.firing import Raised
from api.alerts.webhook import Webhook, fingerprint
from schemas.alerts import BY_NAME

SECRET = "s3cret"
NOW = 1_772_443_800.0  # 2026-03-02T09:30:00Z


def lag(topic: str, since_s: float = NOW) -> Raised:
    return Raised(BY_NAME["RatchetLagOld"], {"topic": topic}, 900.0, since_s)


def by_key(*raised: Raised) -> dict[str, Raised]:
    return {one.key: one for one in raised}


class Receiver:
    """An HTTP/1.1 server that answers what it is told to; 'hang' and 'break' answer nothing."""

    def __init__(self, port: int = 0) -> None:
        self._port = port
        self._serving: set[asyncio.Task[None]] = set()
        self.answers: list[int | str] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.arrived = asyncio.Event()
        self._server: asyncio.Server | None = None
        self.url = ""

    async def __aenter__(self) -> Receiver:
        self._server = await asyncio.start_server(self._track, "127.0.0.1", self._port)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/hook"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _track(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = asyncio.current_task()
        assert serving is not None
        self._serving.add(serving)
        await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:]) if k}
        body = await reader.readexactly(int(headers["content-length"]))
        answer = self.answers.pop(0) if self.answers else 200
        self.got.append((headers, body))
        self.arrived.set()
        if answer == "hang":
            await reader.read()  # until the caller gives up
        elif answer != "break":
            writer.write(f"HTTP/1.1 {answer} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    async def requests(self, number: int) -> list[tuple[dict[str, str], bytes]]:
        async with asyncio.timeout(20):
            while len(self.got) < number:
                self.arrived.clear()
                await self.arrived.wait()
        return self.got

    async def bodies(self, number: int) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in await self.requests(number)]


class Sending:
    """A webhook that runs, and its clock."""

    def __init__(self, url: str, secret: str = SECRET) -> None:
        self.registry = CollectorRegistry()
        self.time_s = NOW
        self._client = httpx.AsyncClient(timeout=0.5, trust_env=False)
        self.webhook = Webhook(
            self._client,
            url,
            secret,
            self.registry,
            repeat_s=3600,
            first_pause_s=0.01,
            clock=lambda: self.time_s,
        )
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Sending:
        self._task = asyncio.create_task(self.webhook.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._client.aclose()

    def count(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("ratchet_alert_deliveries_total", {"outcome": outcome})

    async def delivered(self, number: int) -> None:
        async with asyncio.timeout(20):
            while self.count("delivered") != number:
                await asyncio.sleep(0.01)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as one:
        yield one


@pytest.mark.service
async def test_what_is_not_taken_is_sent_again_and_every_attempt_is_signed(receiver: Receiver) -> None:
    receiver.answers = [500, "hang", "break", 302, 404, 204]
    async with Sending(receiver.url) as sending:
        sending.webhook.update(by_key(lag("interactions")), NOW)
        got = await receiver.requests(6)
        await sending.delivered(1)
        assert sending.count("failed") == 5
    for headers, body in got:
        assert headers["content-type"] == "application/json"
        timestamp = headers["ratchet-timestamp"]
        assert timestamp == str(int(NOW))
        digest = hmac.new(SECRET.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        assert headers["ratchet-signature"] == f"sha256={digest}"
    assert len({body for _, body in got}) == 1


@pytest.mark.service
async def test_a_receiver_that_is_not_there_is_told_when_it_is(unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}/hook"
    async with Sending(url) as sending:
        sending.webhook.update(by_key(lag("interactions")), NOW)
        async with asyncio.timeout(20):
            while not sending.count("failed"):
                await asyncio.sleep(0.01)
        async with Receiver(unused_port) as receiver:
            (body,) = await receiver.bodies(1)
            await sending.delivered(1)
    assert body["alerts"][0]["labels"]["topic"] == "interactions"


@pytest.fixture
async def unused_port() -> int:
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@pytest.mark.service
async def test_the_body_is_what_receivers_of_alertmanager_read(receiver: Receiver) -> None:
    async with Sending(receiver.url, secret="") as sending:
        one, two = lag("interactions"), lag("documents", NOW + 60)
        sending.webhook.update(by_key(one, two), NOW + 60)
        await sending.delivered(1)
        sending.webhook.update(by_key(two), NOW + 120)
        await sending.delivered(2)
        sending.webhook.update({}, NOW + 180)
        first, second, third = await receiver.bodies(3)
        headers, _ = receiver.got[0]
    assert "ratchet-signature" not in headers
    documents = {
        "status": "firing",
        "labels": {"alertname": "RatchetLagOld", "severity": "critical", "topic": "documents"},
        "annotations": {
            "summary": "the oldest record of documents that is not in the store waits for 15m 0s",
            "runbook_url": "docs/operations.md#ratchetlagold",
        },
        "startsAt": "2026-03-02T09:31:00.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "",
        "fingerprint": first["alerts"][0]["fingerprint"],
    }
    assert first == {
        "version": "4",
        "groupKey": '{}:{alertname="RatchetLagOld"}',
        "truncatedAlerts": 0,
        "status": "firing",
        "receiver": "ratchet",
        "groupLabels": {"alertname": "RatchetLagOld"},
        "commonLabels": {"alertname": "RatchetLagOld", "severity": "critical"},
        "commonAnnotations": {"runbook_url": "docs/operations.md#ratchetlagold"},
        "externalURL": "",
        "alerts": [documents, first["alerts"][1]],
    }
    assert second["status"] == "firing"
    assert {(a["labels"]["topic"], a["status"], a["endsAt"]) for a in second["alerts"]} == {
        ("documents", "firing", "0001-01-01T00:00:00Z"),
        ("interactions", "resolved", "2026-03-02T09:32:00.000Z"),
    }
    assert third["status"] == "resolved"
    assert [a["labels"]["topic"] for a in third["alerts"]] == ["documents"]
    assert third["alerts"][0]["fingerprint"] == documents["fingerprint"]


@pytest.mark.service
async def test_what_ends_and_begins_while_a_request_is_under_way_is_told_afterwards(
    receiver: Receiver,
) -> None:
    receiver.answers = ["hang"]
    async with Sending(receiver.url) as sending:
        sending.webhook.update(by_key(lag("interactions")), NOW)
        await receiver.requests(1)
        sending.webhook.update({}, NOW + 15)
        sending.webhook.update(by_key(lag("interactions", NOW + 30)), NOW + 30)
        _, second = await receiver.bodies(2)
        await sending.delivered(1)
        sending.webhook.update(by_key(lag("interactions", NOW + 30)), NOW + 45)  # nothing new
        sending.webhook.update({}, NOW + 60)
        third = (await receiver.bodies(3))[2]
    assert [(a["status"], a["startsAt"]) for a in second["alerts"]] == [
        ("firing", "2026-03-02T09:30:30.000Z")
    ]
    assert [a["status"] for a in third["alerts"]] == ["resolved"]


@pytest.mark.service
async def test_what_stays_raised_is_told_again_after_a_while(receiver: Receiver) -> None:
    async with Sending(receiver.url) as sending:
        for number, at_s in enumerate((0.0, 3600.0, 7200.0), start=1):
            sending.webhook.update(by_key(lag("interactions")), NOW + at_s - 1)
            sending.time_s = NOW + at_s
            sending.webhook.update(by_key(lag("interactions")), NOW + at_s)
            await sending.delivered(number)
        bodies = await receiver.bodies(3)
    assert bodies[0] == bodies[1] == bodies[2]


def test_the_fingerprint_is_that_of_prometheus() -> None:
    # as Alertmanager 0.25 gave it in a webhook's body
    labels = {
        "alertname": "RatchetDiskFilling",
        "instance": "127.0.0.1:42083",
        "job": "ratchet-streams",
        "severity": "critical",
    }
    assert fingerprint(labels) == "ee2f0942b5e5f632"
