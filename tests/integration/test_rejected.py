"""A person finds what was refused, mends it, sends it again, or gives it up: over a real stack."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from infra.kafka.log import ensure_topics
from infra.settings import KafkaSettings
from schemas.topics import REJECTED
from tests.integration.conftest import LiveStack

pytestmark = [pytest.mark.service, pytest.mark.timeout(300)]

TENANT = "mending"
#: `message.max.bytes` of a broker that was not told otherwise: a MiB and the overhead of a batch.
KAFKA_DEFAULT_BYTES = 1024 * 1024 + 12
WHOSE = ("--tenant", TENANT)
BAD: dict[str, Any] = {
    "specversion": "1.0",
    "id": "thumb-1",
    "source": "urn:shop",
    "type": "ratchet.feedback.given.v1",
    "data": {"query_id": "q-1", "kind": "thumbs", "value": 1, "target": {"kind": "query"}},
}


def until(what: str, happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not happens():
        assert time.monotonic() < deadline, what
        time.sleep(0.1)


class Desk:
    """A shop that sends, and a person who looks after what was refused."""

    def __init__(self, stack: LiveStack) -> None:
        self.stack = stack
        self.url = stack.status()["api"]["url"]

    def send(self, *events: dict[str, Any], status: int) -> None:
        answer = httpx.post(
            f"{self.url}/v1/events", json=list(events), headers={"x-api-key": f"key-of-{TENANT}"}
        )
        assert answer.status_code == status, answer.text

    def run(self, *arguments: str, exit_code: int = 0) -> str:
        text = self.stack.run("rejected", *arguments, *WHOSE, check=not exit_code)
        assert "Traceback" not in text
        return text

    def listed(self, **chosen: str) -> list[dict[str, Any]]:
        """Entries, by the API: a command costs a second."""
        answer = httpx.get(
            f"{self.url}/v1/rejected", params=chosen, headers={"x-api-key": f"key-of-{TENANT}"}, timeout=60
        )
        found: list[dict[str, Any]] = answer.json()["entries"]
        return found

    def await_entry(self, **chosen: str) -> str:
        """The beginning of the id of the one entry, once it is there."""
        until("an entry", lambda: len(self.listed(**chosen)) == 1)
        return str(self.listed(**chosen)[0]["entry_id"][:12])

    def events(self, id_: str) -> list[dict[str, Any]]:
        return self.stack.sql(
            f"SELECT query_id, door, source FROM events WHERE tenant = '{TENANT}' AND event_id = '{id_}'"
        )


@pytest.fixture
def desk(stack: LiveStack) -> Desk:
    return Desk(stack)


def test_what_was_refused_is_found_mended_and_stored_once(desk: Desk) -> None:
    desk.send(BAD, status=422)
    desk.send(BAD, status=422)
    id_ = desk.await_entry(reason="invalid_value")
    until("the second one", lambda: desk.listed()[0]["times"] == 2)
    (listed,) = json.loads(desk.run("list", "--since", "1h", "--json"))
    assert (listed["entry_id"][:12], listed["times"]) == (id_, 2)
    assert "invalid_value" in desk.run("stats")
    text = desk.run("show", id_)
    assert '"kind": "thumbs"' in text
    assert "here" in text
    assert f"ratchet rejected fix {id_} --set data.kind=thumb --dry-run --tenant {TENANT}" in text

    mend = ("--set", "data.kind=thumb")
    tried = desk.run("fix", id_, *mend, "--dry-run")
    assert '+    "kind": "thumb"' in tried
    assert "would pass" in tried
    assert "replayed" in desk.run("fix", id_, *mend)
    assert desk.events("thumb-1") == [{"query_id": "q-1", "door": "replay", "source": "urn:shop"}]
    assert desk.listed() == []
    assert "replayed as event thumb-1" in desk.run("fix", id_, *mend)

    # a conflict, under a new id only
    conflict = {**BAD, "data": {**BAD["data"], "kind": "thumb", "value": -1}}
    desk.send(conflict, status=202)
    id_ = desk.await_entry(reason="conflict")
    assert "What stands" in desk.run("show", id_)
    assert "under a new id" in desk.run("replay", id_, exit_code=1)
    done = json.loads(desk.run("replay", id_, "--new-id", "--json"))
    (name,) = done["entries"][0]["events"]
    assert [row["query_id"] for row in desk.events(name["id"])] == ["q-1"]
    assert desk.listed() == []

    # given up, by filter; the log keeps it
    desk.send({**BAD, "id": "x", "source": "urn:load-test"}, status=422)
    desk.await_entry(source="urn:load-test")
    assert "1 entry discarded" in desk.run("discard", "--source", "urn:load-test", "--because", "a load test")
    assert desk.listed() == []


def test_a_large_original_is_kept_whole_and_all_of_it_goes_over_http(desk: Desk) -> None:
    key = json.loads(
        desk.stack.run("keys", "issue", "--scope", "administer", "--scope", "read", "--json", *WHOSE)
    )["key"]
    large = {**BAD, "id": "large", "data": {**BAD["data"], "kind": "thumb", "text": "x" * 900_000}}
    desk.send(large, status=422)
    with httpx.Client(base_url=desk.url, headers={"x-api-key": key}, timeout=60) as client:
        until("the key", lambda: client.get("/v1/rejected").status_code == 200)
        until("the entry", lambda: len(client.get("/v1/rejected").json()["entries"]) == 1)
        (entry,) = client.get("/v1/rejected?reason=too_large").json()["entries"]
        shown = client.get(f"/v1/rejected/{entry['entry_id'][:8]}").json()
        assert (shown["replayable"], shown["original"]) == (True, large)
        assert client.get("/v1/rejected/stats").json()["reason"][0]["value"] == "too_large"
        order = {"entries": [entry["entry_id"]], "mend": {"drop": ["data.text"]}}
        for dry_run, status in ((True, "would_pass"), (False, "replayed")):
            answer = client.post("/v1/rejected/replay", json=order | {"dry_run": dry_run})
            assert answer.json()["counts"] == {status: 1}, answer.text
        until("the event", lambda: len(desk.events("large")) == 1)
        until("nothing", lambda: client.get("/v1/rejected").json()["entries"] == [])
        assert client.post("/v1/rejected/replay", json=order).json()["counts"] == {"answered": 1}


async def test_a_topic_of_an_older_version_is_widened_and_keeps_what_was_set_for_it(broker: str) -> None:
    settings = KafkaSettings(bootstrap=broker)
    await ensure_topics(settings)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:

        async def values() -> dict[str, str]:
            asked = ConfigResource(ConfigResourceType.TOPIC, REJECTED)
            (answer,) = await admin.describe_configs([asked])
            return {entry[0]: entry[1] for entry in answer.resources[0][4]}

        async def awaited(bytes_: int) -> dict[str, str]:
            """What is set, once a record may be so large: a broker learns of a change a moment later."""
            async with asyncio.timeout(20):
                while int((found := await values())["max.message.bytes"]) != bytes_:
                    await asyncio.sleep(0.05)
            return found

        await awaited(2 * 1024 * 1024)
        older = {"retention.ms": "-1", "retention.bytes": "-1", "segment.ms": "1234567"}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, REJECTED, older)])
        await awaited(KAFKA_DEFAULT_BYTES)
        await ensure_topics(settings)
        found = await awaited(2 * 1024 * 1024)
        assert {name: found[name] for name in older} == older
    finally:
        await admin.close()
