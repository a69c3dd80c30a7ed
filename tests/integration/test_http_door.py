"""The application behind the real server: what only a socket shows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from ratchet_client import AsyncRatchet, Ratchet, Refused

from api.processes.serving import serve_until
from infra.local.tcp_ports import allocate_ports
from ingest.settings import IngestSettings
from tests.unit.http_door import ACME, ONE, Site, champion

pytestmark = pytest.mark.service


@asynccontextmanager
async def served(site: Site, directory: Path) -> AsyncIterator[str]:
    """The site on a port of its own, ready."""
    port = allocate_ports(directory, ("http",))["http"]
    told = asyncio.Event()
    server = asyncio.create_task(serve_until(site.app, "127.0.0.1", port, told))
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient() as client, asyncio.timeout(20):
            while True:
                assert not server.done(), server
                try:
                    await client.get(f"{url}/healthz")
                    break
                except httpx.TransportError:
                    await asyncio.sleep(0.02)
        yield url
    finally:
        told.set()
        await server


async def test_both_clients_over_a_socket(tmp_path: Path) -> None:
    site = Site()
    site.serving.states["acme"] = champion("1.0.0")

    def use(url: str) -> None:
        with Ratchet(url, "acme-key") as client:
            asked = client.query("how", user="u")
            client.retrieval(asked.query_id, ["d1", "d2"])
            client.click(asked.query_id, "d1", rank=1)
            client.documents({"document_id": f"d/{n}", "text": "ü" * 100} for n in range(1200))
            assert client.serving("u").version == "1.0.0"
            with pytest.raises(Refused):
                client.feedback(asked.query_id, "stars", value=9)

    async with served(site, tmp_path) as url:
        await asyncio.to_thread(use, url)
        async with AsyncRatchet(url, "acme-key") as client:
            await asyncio.gather(*(client.query(f"question {n}") for n in range(50)))
    assert len(site.events()) == 53
    assert len(site.events("documents")) == 1200
    assert len(site.rejections()) == 1


@pytest.mark.parametrize("path", ["a%2Fb", "a/b", "%C3%BC%20x", "a%3Fb"])
async def test_ids_in_paths_arrive_as_meant(tmp_path: Path, path: str) -> None:
    site = Site()
    async with served(site, tmp_path) as url, httpx.AsyncClient(headers=ACME) as client:
        answer = await client.delete(f"{url}/v1/documents/{path}?x=1")
    meant = {"a%2Fb": "a/b", "a/b": "a/b", "%C3%BC%20x": "ü x", "a%3Fb": "a?b"}[path]
    assert (answer.status_code, answer.json()["document_id"]) == (202, meant)
    assert site.events("documents")[0].subject == meant


async def in_chunks() -> AsyncIterator[bytes]:
    for _ in range(64):
        yield b" " * 16 * 1024


@pytest.mark.parametrize("content", [in_chunks, lambda: b" " * 1024 * 1024], ids=["chunked", "whole"])
async def test_a_large_body_is_answered_not_cut_off(
    tmp_path: Path, content: Callable[[], bytes | AsyncIterator[bytes]]
) -> None:
    site = Site(IngestSettings(max_body_bytes=128 * 1024))
    async with served(site, tmp_path) as url, httpx.AsyncClient(headers=ONE) as client:
        answer = await client.post(f"{url}/v1/events", content=content())
        assert answer.status_code == 413
        assert answer.headers["content-type"] == "application/problem+json"
        assert (await client.get(f"{url}/healthz")).status_code == 200
    assert not site.log.records
