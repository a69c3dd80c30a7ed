"""A backup of a real stack fills an empty one: the same records at the same places, the same tables."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from click.testing import CliRunner, Result

from api.cli.main import cli
from api.cli.project import Project
from infra.clickhouse.compare import read_digests
from infra.clickhouse.connection import LIVE, open_client
from infra.clickhouse.migrate import claim_fold_version, migrate
from infra.clickhouse.sink import ClickHouseRecordLookup, ClickHouseRowSink
from infra.kafka.log import KafkaLogReader, committed_offsets, ensure_topics
from infra.kafka.producer import KafkaEventLog
from infra.kafka.refill import commit_as
from infra.kafka.sink import KafkaEventSink
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.topics import DOCUMENTS, INTERACTIONS, REJECTED, TOPICS
from streams.batch import BatchProcessor
from streams.fold import FOLD_VERSION
from streams.ports import Digest, Message
from streams.settings import StreamSettings
from tests.lifecycle_events import whole_story
from tests.live_services import running_engine, running_kafka
from tests.small_log import conversation, removed, retracted, stored

pytestmark = [pytest.mark.service, pytest.mark.timeout(180)]

EVENTS = [
    *conversation("q1", arm="new"),
    *conversation("q2", user="bob", at_s=10),
    retracted("q2", "q2-click", at_s=5),
    *conversation("q1", tenant="other"),
    stored("d1", "one", "e1"),
    removed("d2", "e3"),
    *whole_story(),
]


class Stack:
    """A broker and a store, as settings of the environment give them to a command."""

    def __init__(self, kafka: KafkaSettings, clickhouse: ClickHouseSettings, directory: Path) -> None:
        self.kafka = kafka
        self.clickhouse = clickhouse
        self.directory = directory
        directory.mkdir()

    def run(self, *arguments: str, expect: int = 0) -> Result:
        environment = {
            "RATCHET_KAFKA__BOOTSTRAP": self.kafka.bootstrap,
            "RATCHET_CLICKHOUSE__URL": self.clickhouse.url,
            "RATCHET_CLICKHOUSE__PASSWORD": self.clickhouse.password,
        }
        done = CliRunner().invoke(cli, ["-C", str(self.directory), *arguments], env=environment)
        assert done.exit_code == expect, (arguments, done.output, done.exception)
        return done

    def digests(self) -> dict[str, Digest]:
        client = open_client(self.clickhouse)
        try:
            return read_digests(client, LIVE)
        finally:
            client.close()

    def records(self) -> list[Message]:
        async def read() -> list[Message]:
            reader = KafkaLogReader(self.kafka.bootstrap)
            return [
                message
                for topic in TOPICS
                async for batch in reader.read(topic.name, await reader.end_offsets(topic.name))
                for message in batch
            ]

        return asyncio.run(read())

    async def work(self) -> None:
        """What the worker does, up to the last record but one of a partition."""
        client = open_client(self.clickhouse)
        migrate(client)
        claim_fold_version(client, FOLD_VERSION)
        reader = KafkaLogReader(self.kafka.bootstrap)
        async with KafkaEventLog(self.kafka.bootstrap) as log:
            assert all(result.confirmed for result in await log.append(EVENTS))
            producer = AIOKafkaProducer(bootstrap_servers=self.kafka.bootstrap)
            await producer.start()
            await producer.send_and_wait(
                INTERACTIONS, b"{garbage", key=b"acme/q1", timestamp_ms=1234567890123
            )
            await producer.stop()
            processor = BatchProcessor(
                ClickHouseRowSink(client),
                ClickHouseRecordLookup(client),
                KafkaEventSink(log),
                StreamSettings(),
            )
            committed = {}
            for topic in (*(t.name for t in TOPICS if t.name != REJECTED), REJECTED):
                committed[topic] = await reader.end_offsets(topic)
                async for messages in reader.read(topic, committed[topic]):
                    await processor.process(topic, messages)
            await commit_as(self.kafka.bootstrap, StreamSettings().group, committed)
            await log.append(conversation("not yet folded"))
        client.close()


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    place = tmp_path_factory.mktemp("full")
    with running_kafka(place) as kafka, running_engine(place) as clickhouse:
        asyncio.run(ensure_topics(kafka))
        stack = Stack(kafka, clickhouse, place / "project")
        asyncio.run(stack.work())
        (stack.directory / "var/artifacts/acme/versions").mkdir(parents=True)
        (stack.directory / "var/artifacts/acme/versions/pipeline.json").write_text("{}")
        (stack.directory / "ratchet.toml").write_text('[tenants.acme]\nkey = "secret"\n')
        Project(stack.directory).make_secrets()
        yield stack


@pytest.fixture(scope="module")
def backup(full: Stack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("backups") / "first"
    done = full.run("backup", str(directory), "--elsewhere")
    assert f"{len(full.records())} records" in done.output
    return directory


def test_everything_deleted_and_restored_is_as_it_was(
    full: Stack, backup: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, sent = AIOKafkaProducer.send, 0

    async def send_and_die(self: AIOKafkaProducer, *args: Any, **more: Any) -> Any:
        nonlocal sent
        sent += 1
        if sent == 8:
            await self.flush()
            raise RuntimeError("killed")
        return await send(self, *args, **more)

    with running_kafka(tmp_path) as kafka, running_engine(tmp_path) as clickhouse:
        empty = Stack(kafka, clickhouse, tmp_path / "project")
        monkeypatch.setattr(AIOKafkaProducer, "send", send_and_die)
        empty.run("restore", str(backup), "--elsewhere", expect=1)
        monkeypatch.undo()
        assert 0 < len(empty.records()) < len(full.records())

        # what was interrupted is gone on with
        empty.run("restore", str(backup), "--elsewhere")
        assert empty.records() == full.records()
        assert empty.digests() == full.digests()
        assert empty.digests()["rejected"].rows == 1
        group = StreamSettings().group
        committed = asyncio.run(committed_offsets(full.kafka.bootstrap, group))
        assert asyncio.run(committed_offsets(kafka.bootstrap, group)) == committed
        for path in ("ratchet.toml", "var/stack/secrets.json", "var/artifacts/acme/versions/pipeline.json"):
            assert (empty.directory / path).read_bytes() == (full.directory / path).read_bytes()
        for path in ("ratchet.toml", "var/stack/secrets.json"):
            assert (empty.directory / path).stat().st_mode & 0o077 == 0
        again = empty.run("restore", str(backup), "--elsewhere", expect=1)
        assert "expected an empty log" in str(again.exception)


def test_nobody_else_reads_a_backup_and_secrets_can_be_left_out(
    full: Stack, backup: Path, tmp_path: Path
) -> None:
    for path in (backup, *backup.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    assert "make another" in str(full.run("restore", str(tmp_path), "--elsewhere", expect=1).exception)
    held = full.run("backup", str(backup), "--elsewhere", expect=1)
    assert "expected an empty directory" in str(held.exception)
    full.run("backup", str(tmp_path / "open"), "--without-secrets", "--elsewhere")
    names = {path.name for path in (tmp_path / "open").rglob("*")}
    assert "pipeline.json" in names
    assert not names & {"ratchet.toml", "secrets.json"}


def test_a_file_that_has_changed_is_named(backup: Path, tmp_path: Path, full: Stack) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    (file,) = [path for path in (damaged / "log").glob("documents-*") if path.stat().st_size > 40][:1]
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    refused = full.run("restore", str(damaged), "--elsewhere", expect=1)
    assert file.name in str(refused.exception)


def test_a_log_that_forgot_is_rebuilt_from_a_backup(full: Stack, backup: Path) -> None:
    before = full.digests()
    ends = asyncio.run(_forget(full.kafka.bootstrap))
    assert ends[INTERACTIONS]
    refused = full.run("rebuild", "--worker-is-stopped", expect=1)
    assert "--from-backup" in str(refused.exception)
    done = full.run("rebuild", "--worker-is-stopped", "--from-backup", str(backup))
    assert "swapped" in done.output
    assert full.digests() == before
    # kept beside, compared, listed, dropped
    offsets = msgspec.json.encode(
        asyncio.run(committed_offsets(full.kafka.bootstrap, StreamSettings().group))
    )
    beside = ("rebuild", "--worker-is-stopped")
    full.run(*beside, "--into", "old", "--as-of", offsets.decode(), "--from-backup", str(backup))
    assert "equal" in full.run("diff", "live", "old").output
    client = open_client(full.clickhouse)
    client.command(
        "ALTER TABLE ratchet_store_old.documents UPDATE text = 'x' WHERE document_id = 'd1' "
        "SETTINGS mutations_sync = 1"
    )
    client.close()
    differs = full.run("diff", "live", "old", expect=1).output
    assert "documents: tenant=acme, document_id=d1" in differs
    assert "differs in text" in differs
    assert "old" in full.run(*beside, "--list").output
    full.run(*beside, "--drop", "old")
    assert "no store is kept" in full.run(*beside, "--list").output
    for name in ("store", "next", "Live", "a-b"):
        refused = full.run(*beside, "--into", name, expect=1)
        assert "expected a name" in str(refused.exception)


async def _forget(bootstrap: str) -> dict[str, dict[int, int]]:
    """Delete records from the beginning of two topics, as a broker does that forgets."""
    reader = KafkaLogReader(bootstrap)
    ends = {topic: await reader.end_offsets(topic) for topic in (INTERACTIONS, DOCUMENTS)}
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records(
        {
            TopicPartition(topic, p): RecordsToDelete(before_offset=min(2, end))
            for topic, offsets in ends.items()
            for p, end in offsets.items()
            if end
        }
    )
    await admin.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap)
    await consumer.start()
    places = [TopicPartition(topic, p) for topic, offsets in ends.items() for p in offsets]
    begins = await consumer.beginning_offsets(places)
    await consumer.stop()
    assert any(begins.values())
    return ends
