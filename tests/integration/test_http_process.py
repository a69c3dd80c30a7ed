"""The API process on a real broker: when it can no longer do its work it says so and ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from aiokafka import TopicPartition

from api.processes.http import serve_api
from api.processes.keys import key_ring
from api.settings import HttpSettings, Settings, TenantSettings
from infra.kafka.lifecycle import LifecycleTail
from infra.kafka.log import ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.local.tcp_ports import allocate_ports
from infra.settings import KafkaSettings
from schemas.envelope import Event
from schemas.errors import Fatal
from schemas.lifecycle_state import Outcome
from schemas.tenant_state import LifecycleState
from tests.lifecycle_events import whole_story

pytestmark = pytest.mark.service

TENANT = "http-process"
KEY = {"authorization": "Bearer k"}


@pytest.fixture
async def settings(broker: str, tmp_path: Path) -> Settings:
    kafka = KafkaSettings(bootstrap=broker)
    await ensure_topics(kafka)
    return Settings(
        kafka=kafka,
        api=HttpSettings(port=allocate_ports(tmp_path, ("http",))["http"]),
        tenants={TENANT: TenantSettings(key="k")},
    )


@pytest.fixture
async def client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.api.port}", headers=KEY) as client:
        yield client


async def ready(client: httpx.AsyncClient, serving: asyncio.Task[None]) -> None:
    async with asyncio.timeout(30):
        while True:
            assert not serving.done(), serving
            try:
                if (await client.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


async def test_a_lifecycle_that_can_no_longer_be_followed_ends_the_process(
    settings: Settings, client: httpx.AsyncClient
) -> None:
    def refuse(event: Event, _outcome: Outcome, _state: LifecycleState) -> None:
        if event.tenant == TENANT:
            raise ZeroDivisionError("no reader of ours")

    bootstrap = settings.kafka.bootstrap
    async with LifecycleTail(bootstrap, on_event=refuse) as lifecycle, KafkaEventLog(bootstrap) as log:
        serving = asyncio.create_task(
            serve_api(settings, lifecycle, log, key_ring(settings), asyncio.Event())
        )
        await ready(client, serving)
        await log.append(whole_story(TENANT)[:1])
        async with asyncio.timeout(30):
            with pytest.raises(Fatal, match="can no longer be followed"):
                await serving
    with pytest.raises(httpx.TransportError):
        await client.get("/healthz")


async def test_a_log_that_takes_nothing_more_answers_and_ends_the_process(
    settings: Settings, client: httpx.AsyncClient
) -> None:
    bootstrap = settings.kafka.bootstrap
    query = {"query_id": "q-1", "text": "how"}
    async with LifecycleTail(bootstrap) as lifecycle, KafkaEventLog(bootstrap) as log:
        serving = asyncio.create_task(
            serve_api(settings, lifecycle, log, key_ring(settings), asyncio.Event())
        )
        await ready(client, serving)
        assert (await client.post("/v1/queries", json=query)).status_code == 202
        assert log._producer is not None
        for partition in range(24):
            numbers = log._producer._txn_manager
            numbers.increment_sequence_number(TopicPartition("interactions", partition), 5)
        answer = await client.post("/v1/queries", json=query)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert msgspec.json.decode(answer.content)["type"] == "urn:ratchet:problem:unconfirmed"
        async with asyncio.timeout(30):
            with pytest.raises(Fatal, match="lost count"):
                await serving


async def test_told_to_stop_it_ends_without_an_error(settings: Settings, client: httpx.AsyncClient) -> None:
    bootstrap = settings.kafka.bootstrap
    told = asyncio.Event()
    async with LifecycleTail(bootstrap) as lifecycle, KafkaEventLog(bootstrap) as log:
        serving = asyncio.create_task(serve_api(settings, lifecycle, log, key_ring(settings), told))
        await ready(client, serving)
        told.set()
        async with asyncio.timeout(30):
            await serving
