"""The demo's application against the real doors: its record and what is kept add up."""

from __future__ import annotations

import random
from pathlib import Path

import httpx
import msgspec
import pytest
from ratchet_client import AsyncRatchet, Found, FoundDocument, Retries

from infra.demo import application
from infra.demo.application import SOURCE, HelpSearch
from infra.demo.customers import react
from infra.demo.dataset import HelpText
from infra.demo.record import Record
from tests.unit.http_door import Site

_FOUND = Found(
    query_id="q-1",
    retrieval_id="r-1",
    version="1.0.0",
    hits=tuple(FoundDocument(f"d-{rank}", rank, 1 / rank) for rank in range(1, 11)),
)


def _client(site: Site, transport: httpx.AsyncBaseTransport | None = None) -> AsyncRatchet:
    return AsyncRatchet(
        "http://ratchet",
        "acme-key",
        source=SOURCE,
        transport=transport or httpx.ASGITransport(app=site.app),  # type: ignore[arg-type]
        retries=Retries(attempts=1),
    )


async def test_documents_are_stored_and_recorded(tmp_path: Path) -> None:
    site = Site()
    with Record(tmp_path / "client.jsonl") as record:
        async with _client(site) as client:
            await HelpSearch(client, record).load(HelpText(f"d-{n}", f"text {n}") for n in range(600))
        assert (record.counts.sent, record.counts.acknowledged, record.counts.refused) == (600, 600, 0)
    assert len(site.events("documents")) == 600


async def test_repeats_and_broken_events_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "REPEATED", 0.2)
    monkeypatch.setattr(application, "BROKEN", 0.2)
    site = Site()
    with Record(tmp_path / "client.jsonl") as record:
        async with _client(site) as client:
            search = HelpSearch(client, record)
            for number in range(200):
                rng = random.Random(number)
                await search.report(_FOUND, react([True] * 10, rng), rng)
        counts = record.counts
    stored, rejected = site.events(), site.rejections()
    assert counts.acknowledged == len({event.id for event in stored}) < len(stored)
    assert counts.refused == len({rejection.event_id for rejection in rejected}) > 0
    assert counts.sent == counts.acknowledged + counts.refused
    assert counts.sendings == len(stored) + len(rejected)
    assert counts.unconfirmed == 0
    assert {event.source for event in stored} | {entry.event_source for entry in rejected} == {SOURCE}
    # Each kind of fault was sent, and a repeat is the same event to the byte.
    assert len({rejection.reason for rejection in rejected}) >= 3
    assert len({(event.id, event.contenthash) for event in stored}) == counts.acknowledged


async def test_what_was_not_confirmed_is_sent_again(tmp_path: Path) -> None:
    site = Site()
    inner = httpx.ASGITransport(app=site.app)  # type: ignore[arg-type]

    class Lossy(httpx.AsyncBaseTransport):
        lost = 0

        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            answer = await inner.handle_async_request(request)
            if self.lost < 3:
                self.lost += 1
                raise httpx.ReadTimeout("the answer was lost", request=request)
            return answer

    with Record(tmp_path / "client.jsonl") as record:
        async with _client(site, Lossy()) as client:
            search = HelpSearch(client, record)
            await search.report(_FOUND, react([True] * 10, random.Random(1)), random.Random(2))
            lost = record.counts.unconfirmed
            await search.confirm()
            counts = record.counts
    assert lost > 0
    assert counts.unconfirmed == 0
    assert counts.acknowledged == len({event.id for event in site.events()}) == counts.sent


async def test_the_record_is_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "client.jsonl"
    with Record(path) as record:
        record.note("sent", "e-1")
        record.note("sent", "e-1")
        record.note("acknowledged", "e-1")
        record.note("sent", "e-2")
        record.note("refused", "e-2")
        record.note("sent", "e-3")
        counts = record.counts
    assert (counts.sent, counts.acknowledged, counts.refused) == (3, 1, 1)
    assert (counts.unconfirmed, counts.sendings) == (1, 4)
    assert len([msgspec.json.decode(line) for line in path.read_bytes().splitlines()]) == 6
