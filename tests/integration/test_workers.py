"""Four workers and two doors of one stack: a worker killed, and a topic grown, while events come in."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
import pytest
from aiokafka import AIOKafkaProducer

from api.cli.project import Project
from infra.clickhouse.connection import LIVE, open_client
from infra.kafka.grow import partition_counts
from infra.kafka.log import GroupProgress, KafkaLogReader
from infra.kafka.producer import KafkaEventLog, partition_hash
from schemas import lifecycle as lc
from schemas.codec import decode_event, encode_event
from schemas.errors import Retryable
from schemas.topics import INTERACTIONS, record_key
from streams.ports import TABLES
from tests.contents import held_in_memory, held_on_clickhouse
from tests.integration.conftest import BIN, LiveStack
from tests.integration.test_worker import FOLDED, expected_rows
from tests.lifecycle_events import event as lifecycle_event
from tests.lifecycle_events import whole_story
from tests.live_services import free_ports, wait_for
from tests.small_log import clicked

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]

WORKERS: Final = 4
GROWN: Final = 40
BATCH: Final = "application/cloudevents-batch+json"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """Kafka, engine, one API process and four workers."""
    directory = tmp_path_factory.mktemp("workers")
    (directory / "ratchet.toml").write_text(f"[streams]\nworkers = {WORKERS}\ncommit_interval_s = 0.2\n")
    live = LiveStack(directory)
    up = subprocess.Popen(
        ["ratchet", "up", "--no-learn", "--tied"],
        cwd=directory,
        env=live.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        wait_for(
            "the stack's start",
            lambda: up.poll() is not None or bool(live.status().get("healthy")),
            limit_s=180,
        )
        assert up.poll() is None, up.communicate()[1].decode()
        yield live
    finally:
        up.communicate(timeout=90)


@pytest.fixture(scope="module")
def project(stack: LiveStack) -> Project:
    return Project(stack.directory)


@contextmanager
def second_door(project: Project) -> Iterator[str]:
    """Another API process of the same stack; its address once it is ready."""
    (port,) = free_ports(1)
    environment = {"PATH": f"{BIN}:/usr/bin:/bin", "HOME": os.environ["HOME"], **project.local_environment()}
    environment["RATCHET_API__PORT"] = str(port)
    log = project.data / "log" / "api-2.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "api.processes.http", "--directory", str(project.directory)],
            env=environment,
            cwd=project.directory,
            stdout=output,
            stderr=output,
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for("the second door", lambda: process.poll() is not None or is_ready(url))
        assert process.poll() is None, log.read_text()
        yield url
    finally:
        process.terminate()
        process.wait(30)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").status_code == 200
    except httpx.TransportError:
        return False


class Traffic(threading.Thread):
    """Questions with their lists through one door, and a click on each some requests later.

    What is not acknowledged is sent again with the same ids until it is. At the end every id that was ever
    sent is acknowledged.
    """

    def __init__(self, name: str, url: str, key: str) -> None:
        super().__init__(daemon=True)
        self._run, self._url, self._key = name, url, key
        self._told = threading.Event()
        self.sent: set[str] = set()
        self.queries: list[str] = []
        self.statuses: dict[int, int] = {}
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            with httpx.Client(headers={"authorization": f"Bearer {self._key}"}, timeout=30) as client:
                while not self._told.is_set():
                    self._send(client, self._new_queries() + self._late_clicks())
                self._send(client, [self._click(query) for query in self.queries[-60:]])
        except BaseException as error:
            self.failure = error

    def _new_queries(self) -> list[dict[str, Any]]:
        events = []
        for _ in range(10):
            query = f"{self._run}-{len(self.queries)}"
            self.queries.append(query)
            hits = [{"document_id": "a", "rank": 1}, {"document_id": "b", "rank": 2}]
            events += [
                event(f"{query}-asked", "query.asked", query_id=query, text=query, user=f"u{query}"),
                event(f"{query}-served", "retrieval.served", query_id=query, retrieval_id=query, hits=hits),
            ]
        return events

    def _late_clicks(self) -> list[dict[str, Any]]:
        return [self._click(query) for query in self.queries[-60:-50]]

    def _click(self, query: str) -> dict[str, Any]:
        target = {"kind": "document", "document_id": "b"}
        return event(f"{query}-click", "feedback.given", query_id=query, kind="click", target=target)

    def _send(self, client: httpx.Client, events: list[dict[str, Any]]) -> None:
        self.sent |= {one["id"] for one in events}
        body, deadline = json.dumps(events).encode(), time.monotonic() + 90
        while True:
            answer = client.post(f"{self._url}/v1/events", content=body, headers={"content-type": BATCH})
            self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
            if answer.status_code == 202:
                return
            assert answer.status_code == 503, answer.text
            assert int(answer.headers["retry-after"]) >= 1
            assert time.monotonic() < deadline, answer.text
            time.sleep(0.2)

    def stop(self) -> None:
        self._told.set()
        self.join(120)
        assert self.failure is None, repr(self.failure)


def event(id: str, noun: str, **data: object) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": id,
        "source": "urn:test:workers",
        "type": f"ratchet.{noun}.v1",
        "time": "2026-03-02T09:00:00Z",
        "data": data,
    }


@contextmanager
def traffic(project: Project, name: str, *urls: str) -> Iterator[list[Traffic]]:
    key = project.settings.tenants["default"].key
    senders = [Traffic(f"{name}{number}", url, key) for number, url in enumerate(urls)]
    for sender in senders:
        sender.start()
    try:
        yield senders
    finally:
        for sender in senders:
            sender.stop()


async def wait_committed(project: Project) -> None:
    settings = project.settings
    async with (
        asyncio.timeout(90),
        GroupProgress(settings.kafka.bootstrap, settings.streams.group) as progress,
    ):
        while True:
            try:
                read = await progress.read()
                if all(one.committed >= one.end for ps in read.values() for one in ps.values()):
                    return
            except Retryable:
                pass
            await asyncio.sleep(0.1)


async def assert_exact(project: Project, senders: list[Traffic], *, clicks: int = 1) -> None:
    """What was acknowledged is there once, each query has its click, and every row is the clean fold's."""
    await wait_committed(project)
    client = open_client(project.settings.clickhouse)
    try:
        found = client.query(f"SELECT event_id FROM {LIVE.views}.events").result_rows
        ids = [row[0] for row in found]
        sent = set().union(*(sender.sent for sender in senders))
        assert len(ids) == len(set(ids)), "an event is there twice"
        assert sent <= set(ids), f"lost: {sorted(sent - set(ids))[:10]}"
        expected = await expected_rows(project.settings.kafka.bootstrap)
        for table in FOLDED:
            assert held_on_clickhouse(client, LIVE, table) == held_in_memory(expected, table), table
        wrong = client.query(
            f"SELECT query_id FROM {LIVE.views}.episodes WHERE has_query "
            f"AND (clicks < 1 OR clicks > {clicks})"
        ).result_rows
        assert [row for row in wrong if f"{row[0]}-click" in sent] == []
    finally:
        client.close()


def workers(stack: LiveStack) -> dict[str, dict[str, Any]]:
    return {p["name"]: p for p in stack.status()["processes"] if p["name"].startswith("streams")}


async def test_a_worker_of_four_is_killed_and_every_row_is_exact(stack: LiveStack, project: Project) -> None:
    names = ["streams", *(f"streams-{number}" for number in range(2, WORKERS + 1))]
    assert list(workers(stack)) == names
    members = {f"worker-{number}" for number in range(1, WORKERS + 1)}
    instances = {path.name for path in (project.data / "faust").iterdir()}
    assert instances == members
    api = stack.status()["api"]["url"]
    with traffic(project, "kill", api, api) as senders:
        await asyncio.to_thread(wait_for, "some traffic", lambda: len(senders[0].sent) > 300)
        pid = workers(stack)["streams-3"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(
            wait_for, "another streams-3", lambda: workers(stack)["streams-3"]["pid"] not in (None, pid)
        )
        more = len(senders[0].sent) + 200
        await asyncio.to_thread(wait_for, "more traffic", lambda: len(senders[0].sent) > more)
    await assert_exact(project, senders)


async def test_a_topic_grows_under_load_through_two_doors(stack: LiveStack, project: Project) -> None:
    bootstrap = project.settings.kafka.bootstrap
    first = stack.status()["api"]["url"]
    with second_door(project) as second:
        with traffic(project, "grow", first, second) as senders:
            await asyncio.to_thread(wait_for, "some traffic", lambda: min(len(s.sent) for s in senders) > 200)
            await asyncio.to_thread(stack.run, "topics", "grow", INTERACTIONS, str(GROWN))
            assert (await partition_counts(bootstrap))[INTERACTIONS] == GROWN
            more = [len(sender.sent) + 300 for sender in senders]
            await asyncio.to_thread(
                wait_for,
                "traffic after it",
                lambda: all(len(s.sent) > n for s, n in zip(senders, more, strict=True)),
            )
        for sender in senders:
            assert sender.statuses[503] > 0, "a door stayed open while its topic grew"
        # both doors spread keys over the new partitions, and nothing lies elsewhere
        ends = await KafkaLogReader(bootstrap).end_offsets(INTERACTIONS)
        assert len(ends) == GROWN
        assert all(ends[number] > 0 for number in range(24, GROWN))
        await assert_exact(project, senders)
        # a writer that slept through it appends where the key was before: the record is passed on
        appended, misplaced = await append_as_before(project, [sender.queries[0] for sender in senders])
        await assert_exact(project, senders, clicks=2)
        assert await count_late(project) == appended + misplaced
    # keys in two partitions, records that are there twice: the log still gives the same tables
    told = await asyncio.to_thread(stack.run, "rebuild")
    assert "swapped: the rebuilt tables are the living ones" in told
    assert "differs" not in told
    assert told.count("equal") == len(TABLES) + 1  # and the pairs
    await assert_exact(project, senders, clicks=2)
    assert "closed" not in stack.run("topics", "list")
    told = stack.run("topics", "grow", INTERACTIONS, str(GROWN), check=False)
    assert told == ""


async def test_two_doors_are_ready_once_they_have_read_the_lifecycle(project: Project) -> None:
    """Whoever asks a door that says it is ready gets what the last event of the lifecycle says."""
    story = whole_story("default")
    padding = [
        lifecycle_event(lc.ExperimentMeasured(experiment="e"), f"padding-{n}", tenant="default")
        for n in range(4000)
    ]
    async with KafkaEventLog(project.settings.kafka.bootstrap) as log:
        for events in (story[:-1], padding, story[-1:]):
            assert all(one.confirmed for one in await log.append(events))
    key = project.settings.tenants["default"].key
    query = json.dumps([event("two-doors", "query.asked", query_id="two-doors", text="t")]).encode()
    with second_door(project) as first, second_door(project) as second:
        for url in (first, second):
            served = httpx.get(f"{url}/v1/serving", headers={"authorization": f"Bearer {key}"})
            assert served.json()["version"] == "1.1.0"
            sent = httpx.post(
                f"{url}/v1/events",
                content=query,
                headers={"authorization": f"Bearer {key}", "content-type": BATCH},
            )
            assert sent.status_code == 202


async def append_as_before(project: Project, queries: list[str]) -> tuple[int, int]:
    """One more click of each query, in the partition of 24 that its key had; how many, and how many moved."""
    queries = [*queries, *(f"never-asked-{number}" for number in range(20))]
    producer = AIOKafkaProducer(bootstrap_servers=project.settings.kafka.bootstrap)
    await producer.start()
    misplaced = 0
    try:
        for query in queries:
            late = clicked(query, "a", f"{query}-late", at_s=90, tenant="default")
            key = record_key("default", query)
            misplaced += partition_hash(key) % 24 != partition_hash(key) % GROWN
            await producer.send_and_wait(
                INTERACTIONS, encode_event(late), key=key, partition=partition_hash(key) % 24
            )
    finally:
        await producer.stop()
    assert misplaced > 0
    return len(queries), misplaced


async def count_late(project: Project) -> int:
    """Records of these clicks in the log; one that was passed on is there twice."""
    reader, found = KafkaLogReader(project.settings.kafka.bootstrap), 0
    async for messages in reader.read(INTERACTIONS, await reader.end_offsets(INTERACTIONS)):
        found += sum(decode_event(message.value).id.endswith("-late") for message in messages)
    return found
