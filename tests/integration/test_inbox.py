"""The inbox on a real broker: every way to write, any key, a kill between append and commit, kill -9."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from api.processes.identity import now
from infra.kafka.inbox import KafkaInbox, ensure_inboxes, inbox_topic
from infra.kafka.log import KafkaLogReader, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.local.tcp_ports import allocate_ports
from infra.settings import KafkaSettings
from ingest.inbox import InboxTaker
from ingest.intake import Intake
from ingest.ports import InboxRecord
from ingest.settings import IngestSettings
from schemas.codec import decode_event
from schemas.envelope import Event
from schemas.topics import INTERACTIONS, REJECTED
from streams.ports import Message
from tests.live_services import wait_until
from tests.unit.http_door import query

pytestmark = pytest.mark.service
TENANT: Final = "in-box"
BINARY: Final = [
    ("ce_specversion", b"1.0"),
    ("ce_id", b"e-2"),
    ("ce_source", "urn:größe".encode()),
    ("ce_type", b"ratchet.query.asked.v1"),
    ("content-type", b"application/json"),
]


async def records_of(bootstrap: str, topic: str, tenant: str) -> list[Message]:
    """What the log has of a tenant."""
    reader = KafkaLogReader(bootstrap)
    found = [one async for batch in reader.read(topic, await reader.end_offsets(topic)) for one in batch]
    return [one for one in found if one.key.startswith(f"{tenant}/".encode())]


async def events_of(bootstrap: str, topic: str, tenant: str) -> list[Event]:
    return [decode_event(one.value) for one in await records_of(bootstrap, topic, tenant)]


async def fetched(inbox: KafkaInbox, number: int) -> Sequence[InboxRecord]:
    """As many records, however many fetches that takes."""
    found: list[InboxRecord] = []
    async with asyncio.timeout(60):
        while len(found) < number:
            found += await inbox.fetch(0.2)
    assert len(found) == number
    return found


async def test_what_applications_write_is_keyed_anew_and_comes_again_until_it_is_committed(
    broker: str,
) -> None:
    settings = KafkaSettings(bootstrap=broker)
    await ensure_topics(settings)
    group = "test-inbox"
    topic = inbox_topic(TENANT)
    async with (
        KafkaEventLog(broker) as log,
        # before the topic is there, and beside one of a tenant that has none
        KafkaInbox(broker, [TENANT, "absent"], group=group) as inbox,
    ):
        assert await inbox.fetch(0.1) == []
        assert await ensure_inboxes(settings, [TENANT], partitions=3) == [topic]
        assert await ensure_inboxes(settings, [TENANT], partitions=3) == []
        producer = AIOKafkaProducer(bootstrap_servers=broker)
        await producer.start()
        structured = [("content-type", b"application/cloudevents+json")]
        written: list[tuple[bytes | None, list[tuple[str, bytes]], bytes | None, int]] = [
            (json.dumps(query(1)).encode(), structured, None, 0),
            (b'{"query_id": "q-1", "text": "of the same query"}', BINARY, b"a key of its own", 2),
            (json.dumps(query(3)).encode(), [("content-type", b"application/json")], b"in-box/q-3", 1),
            (b"\xff nonsense", structured, None, 0),
            (None, [], b"tombstone", 1),
        ]
        for value, headers, key, partition in written:
            await producer.send_and_wait(topic, value, key=key, headers=headers, partition=partition)
        await producer.stop()

        taker = InboxTaker(Intake(log, IngestSettings(), code_version="1"), now=now, pause=asyncio.sleep)
        first = await fetched(inbox, len(written))
        assert all(one.appended is not None and one.tenant == TENANT for one in first)
        assert sum(inbox.lag().values()) == len(written)
        await taker.take(first)
    # killed here: in the log, and not committed
    async with KafkaEventLog(broker) as log, KafkaInbox(broker, [TENANT], group=group) as inbox:
        taker = InboxTaker(Intake(log, IngestSettings(), code_version="1"), now=now, pause=asyncio.sleep)
        again = await fetched(inbox, len(written))
        assert set(again) == set(first)
        await taker.take(again)
        await inbox.commit(again)
        assert sum(inbox.lag().values()) == 0
    async with KafkaInbox(broker, [TENANT], group=group) as inbox:
        assert await inbox.fetch(3.0) == []

    records = await records_of(broker, INTERACTIONS, TENANT)
    assert len(records) == 6
    assert len({one.value for one in records}) == 3
    by_query: dict[str, set[int]] = {}
    for one in records:
        event = decode_event(one.value)
        assert one.key == f"{TENANT}/{event.subject}".encode()
        by_query.setdefault(str(event.subject), set()).add(one.partition)
    assert {query_id: len(places) for query_id, places in by_query.items()} == {"q-1": 1, "q-3": 1}
    assert {event.source for event in map(decode_event, (one.value for one in records))} == {
        "urn:app",
        "urn:größe",
    }
    (entry,) = {event.id for event in await events_of(broker, REJECTED, TENANT)}
    assert entry


async def test_a_partition_that_moved_before_its_commit_is_read_again_by_who_has_it_now(broker: str) -> None:
    settings, tenant, group = KafkaSettings(bootstrap=broker), "in-box-moved", "test-inbox-moved"
    await ensure_inboxes(settings, [tenant], partitions=2)
    producer = AIOKafkaProducer(bootstrap_servers=broker)
    await producer.start()
    for partition in (0, 1):
        await producer.send_and_wait(inbox_topic(tenant), json.dumps(query()).encode(), partition=partition)
    await producer.stop()
    async with KafkaInbox(broker, [tenant], group=group) as first:
        both = await fetched(first, 2)
        async with KafkaInbox(broker, [tenant], group=group) as second:
            (again,) = await fetched(second, 1)
            # one of the two is the other member's by now; the first one notes what is still its own
            await first.commit(both)
            await second.commit([again])
    async with KafkaInbox(broker, [tenant], group=group) as third:
        assert await third.fetch(3.0) == []


@pytest.mark.timeout(180)
async def test_kill_nine_loses_nothing_and_makes_no_other_event(broker: str, tmp_path: Path) -> None:
    tenant, number = "in-box-killed", 4_000
    port = allocate_ports(tmp_path, ("http",))["http"]
    (tmp_path / "ratchet.toml").write_text(
        f'[kafka]\nbootstrap = "{broker}"\n[inbox]\ntenants = ["{tenant}"]\n'
        f'[inbox_http]\nport = {port}\n[tenants.{tenant}]\nkey = "k"\n'
    )
    await ensure_topics(KafkaSettings(bootstrap=broker))
    command = [sys.executable, "-P", "-m", "api.processes.inbox", "--directory", str(tmp_path)]
    output = (tmp_path / "inbox.log").open("ab")

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=output, stderr=output)

    def ready() -> bool:
        assert process.poll() is None, (tmp_path / "inbox.log").read_text()
        try:
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    process = start()
    try:
        await wait_until("a ready inbox", ready)
        ids = {f"e-{n}" for n in range(number)}
        producer = AIOKafkaProducer(bootstrap_servers=broker, linger_ms=5)
        await producer.start()

        async def write() -> None:
            for n in range(number):
                await producer.send(inbox_topic(tenant), json.dumps(query(n)).encode(), key=b"any")
                if n % 100 == 0:
                    await asyncio.sleep(0.05)
            await producer.flush()

        writing = asyncio.create_task(write())
        seen = 0
        for _ in range(3):
            # some came through, and more is on its way
            async with asyncio.timeout(60):
                while (now_seen := len(await events_of(broker, INTERACTIONS, tenant))) <= seen:
                    await asyncio.sleep(0.05)
            seen = now_seen
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
            process = start()
            if seen >= number:
                break
        await writing
        await producer.stop()
        async with asyncio.timeout(90):
            while {event.id for event in await events_of(broker, INTERACTIONS, tenant)} != ids:
                assert process.poll() is None, (tmp_path / "inbox.log").read_text()
                await asyncio.sleep(0.2)
        records = await events_of(broker, INTERACTIONS, tenant)
        # what was taken twice is the same record, received at the same time
        assert len({(event.identity, event.contenthash, event.recordedtime) for event in records}) == number
        await wait_until("a ready inbox", ready)
        lag = f'ratchet_inbox_lag_events{{partition="0",topic="{inbox_topic(tenant)}"}} 0.0'
        await wait_until("no lag", lambda: lag in httpx.get(f"http://127.0.0.1:{port}/metrics").text)
        shown = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        assert lag.replace("lag_events", "lag_seconds") in shown
        process.terminate()
        assert await asyncio.to_thread(process.wait, 40) == 0
    finally:
        process.kill()
        process.wait(10)
        output.close()
