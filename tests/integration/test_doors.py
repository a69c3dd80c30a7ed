"""The same question through every door: what is stored does not say through which it came.

Compared are all stored columns but those that name the door: source, id, door, position and received time,
with what is made of them (the record itself, references to events).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from infra.clickhouse.connection import Databases, open_client
from infra.clickhouse.migrate import migrate
from infra.kafka.log import ensure_topics
from infra.kafka.producer import KafkaEventLog
from schemas.codec import decode_event, decode_payload
from schemas.envelope import Event
from schemas.topics import INTERACTIONS, WAITING
from schemas.waiting import QueryNamed
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Table
from streams.settings import StreamSettings
from streams.waiting import ReferenceResolver
from tests.contents import held_in_memory, held_on_clickhouse
from tests.doors import DOORS as HTTP_DOORS
from tests.doors import PARTS, Door, Part, Telling, part_of, tell, whole_story
from tests.doors_beside_http import DOORS_BESIDE_HTTP
from tests.live_services import running_engine, running_kafka, wait_until
from tests.small_log import messages_of
from tests.unit.http_door import Site
from tests.worker_process import WorkerOptions, running_worker

DOORS: Final = (*HTTP_DOORS, *DOORS_BESIDE_HTTP)
#: Table → columns that say through which door, when and as which event it came.
NOT_COMPARED: Final[dict[Table, frozenset[str]]] = {
    "events": frozenset(
        {
            *("source", "event_id", "door", "received_time", "topic", "partition", "offset"),
            "record",
        }
    ),
    "episodes": frozenset(
        {
            *("query_source", "query_event_id", "first_received_at"),
            *("feedback_source", "feedback_id", "pair_event_sources", "pair_event_ids"),
        }
    ),
    "contributions": frozenset(),
}
#: Tables that are compared whole where real services have filled them.
WHOLE: Final[tuple[Table, ...]] = ("events", "episodes", "waiting")
Rows = dict[str, list[dict[str, Any]]]


class Passed:
    """What was passed on to `interactions`."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    async def append(self, events: Sequence[Event]) -> None:
        self.events += events


def told_events(site: Site) -> dict[str, Event]:
    """Part → the event that tells it; none may be told twice."""
    events = [event for topic in (INTERACTIONS, WAITING) for event in site.events(topic)]
    told = [event for event in events if not isinstance(decode_payload(event), QueryNamed)]
    by_part = {part_of(decode_payload(event)): event for event in told}
    assert len(by_part) == len(told)
    return by_part


async def stored_of(site: Site) -> MemoryStore:
    """What the worker stores of all that came in."""
    store, passed = MemoryStore(), Passed()
    resolver = ReferenceResolver(store, passed, retry_for_s=1.0)
    worker = BatchProcessor(store, store, MemoryLog(), StreamSettings(), resolver=resolver)
    await worker.process(WAITING, messages_of(site.events(WAITING)))
    await worker.process(INTERACTIONS, messages_of([*site.events(), *passed.events]))
    assert not store.rows("rejected")
    return store


async def rows_of(site: Site) -> Rows:
    """What the worker stores, as far as it is compared."""
    store = await stored_of(site)
    rows: Rows = {}
    for table, hidden in NOT_COMPARED.items():
        plain = [{name: v for name, v in row.items() if name not in hidden} for row in store.rows(table)]
        rows[table] = sorted(plain, key=lambda row: str(row.get("content_hash", "")))
    # what a reader sees as data is cut out of the record, whose envelope says where it came from
    data = sorted(bytes(decode_event(row["record"]).data) for row in store.rows("events"))
    rows["data"] = [{"data": one} for one in data]
    return rows


@pytest.mark.parametrize("door", DOORS, ids=[door.name for door in DOORS])
async def test_what_is_stored_does_not_say_through_which_door_it_came(door: Door) -> None:
    story = whole_story(door)
    telling = Telling(Site(), door.start)
    await door.send(telling, {part: story[part] for part in door.says})
    told = told_events(telling.site)
    assert told.keys() == set(door.says)
    times: dict[str, dt.datetime | None] = {part: event.time for part, event in told.items()}
    assert all((time is not None) == door.timed for time in times.values())
    others = [part for part in PARTS if part not in door.says]
    for send, parts in door.rest:
        await send(telling, {part: story[part] for part in parts})
        others = [part for part in others if part not in parts]
    await tell(telling, {part: story[part] for part in others})
    assert told_events(telling.site).keys() == set(PARTS)

    plain = Telling(Site(), door.start)
    await tell(plain, {part: Part(story[part].payload, times.get(part, story[part].time)) for part in PARTS})
    stored, expected = await rows_of(telling.site), await rows_of(plain.site)
    assert stored == expected
    (episode,) = stored["episodes"]
    assert episode["has_query"]
    assert len(episode["feedback_kind"]) == 6
    assert len(stored["events"]) == len(PARTS)


async def tell_through_all(site: Site) -> None:
    """The question through every door of one site, one after the other."""
    for door in DOORS:
        story = whole_story(door)
        telling = Telling(site, door.start)
        await door.send(telling, {part: story[part] for part in door.says})
        for send, parts in door.rest:
            await send(telling, {part: story[part] for part in parts})


@pytest.mark.service
async def test_every_door_of_real_services(tmp_path: Path) -> None:
    in_memory = Site()
    await tell_through_all(in_memory)
    store = await stored_of(in_memory)
    expected = {table: held_in_memory(store, table) for table in WHOLE}
    databases = Databases("doors_store", "doors_views")
    for folder in ("kafka", "engine"):
        (tmp_path / folder).mkdir()
    with running_kafka(tmp_path / "kafka") as kafka, running_engine(tmp_path / "engine") as engine:
        await ensure_topics(kafka)
        client = open_client(engine)
        migrate(client, databases)
        async with KafkaEventLog(kafka.bootstrap) as log:
            await tell_through_all(Site(log=log))
        options = WorkerOptions(
            bootstrap=kafka.bootstrap,
            clickhouse=engine,
            databases=databases,
            streams=StreamSettings(group="doors", commit_interval_s=0.2),
            directory=str(tmp_path),
        )

        with running_worker(options):
            for table, rows in expected.items():
                with suppress(AssertionError):  # below it is said what differs
                    await wait_until(
                        f"the rows of {table}",
                        lambda: held_on_clickhouse(client, databases, table) == rows,  # noqa: B023
                    )
        for table, rows in expected.items():
            assert held_on_clickhouse(client, databases, table) == rows
        client.close()
