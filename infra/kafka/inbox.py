"""Inboxes: topics `inbox.<tenant>`, which applications write, read as one group with commits by hand."""

from __future__ import annotations

import datetime as dt
import logging
import re
from collections.abc import Collection, Sequence
from types import TracebackType
from typing import Any, Final, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)

from infra.settings import KafkaSettings
from ingest.ports import InboxRecord
from schemas.errors import Retryable

log = logging.getLogger(__name__)

INBOX_PREFIX: Final = "inbox."
GROUP: Final = "ratchet-inbox"
#: `timestamp.type` of a record whose time is the broker's.
_APPEND_TIME: Final = 1
_MAX_RECORDS: Final = 1_000
#: A topic that is made while we run is found within this time.
_LOOK_FOR_TOPICS_MS: Final = 5_000
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def inbox_topic(tenant: str) -> str:
    """The topic that a tenant's applications write."""
    return f"{INBOX_PREFIX}{tenant}"


async def ensure_inboxes(settings: KafkaSettings, tenants: Collection[str], *, partitions: int) -> list[str]:
    """Create the inboxes that are missing; the names of those created. Others are left as they are.

    A new one has the broker's append times, and forgets when the broker's topics do: how long is for whom
    they belong to. Where a broker does not let us create topics, a warning says which ones. Raises Retryable.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    try:
        await admin.start()
        present = set(await admin.list_topics())
        missing = [
            NewTopic(
                inbox_topic(tenant),
                partitions,
                settings.replication,
                topic_configs={"message.timestamp.type": "LogAppendTime"},
            )
            for tenant in sorted(tenants)
            if inbox_topic(tenant) not in present
        ]
        if not missing:
            return []
        created = []
        for name, code, *text in (await admin.create_topics(missing)).topic_errors:
            if code == 0:
                created.append(name)
            elif for_code(code) is not TopicAlreadyExistsError:
                log.warning("Kafka refuses to create %r: %s %s", name, for_code(code).__name__, text)
        return created
    except KafkaError as error:
        raise Retryable(f"looking after the inboxes at {settings.bootstrap}: {error!r}") from error
    finally:
        await admin.close()


class KafkaInbox:
    """`Inbox` over one aiokafka consumer of the group `ratchet-inbox`; an async context manager.

    Reads the inboxes of `tenants` and no others; one that does not exist is read once it is there. What was
    written in a transaction is read once that is committed, and never if it was aborted. With an `instance` a
    member that comes back takes its partitions at once; each member needs its own.
    """

    def __init__(
        self, bootstrap: str, tenants: Collection[str], *, group: str = GROUP, instance: str = ""
    ) -> None:
        self._bootstrap = bootstrap
        self._tenants = {inbox_topic(tenant): tenant for tenant in tenants}
        self._consumer = AIOKafkaConsumer(
            bootstrap_servers=bootstrap,
            group_id=group,
            client_id=GROUP,
            group_instance_id=instance or None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            fetch_max_wait_ms=200,
            # after a kill -9 the others wait for so long
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
            metadata_max_age_ms=_LOOK_FOR_TOPICS_MS,
        )
        #: First offset that was fetched and is not committed, or is to be fetched.
        self._next: dict[TopicPartition, int] = {}

    async def __aenter__(self) -> Self:
        """Connects. Raises Retryable."""
        # as a pattern: topics that are subscribed to by name must exist
        self._consumer.subscribe(pattern="|".join(rf"\A{re.escape(topic)}\Z" for topic in self._tenants))
        try:
            await self._consumer.start()
        except KafkaError as error:
            await self._consumer.stop()
            raise Retryable(f"no Kafka broker answers at {self._bootstrap}: {error!r}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._consumer.stop()

    async def fetch(self, timeout_s: float) -> Sequence[InboxRecord]:
        """See the port."""
        try:
            fetched = await self._consumer.getmany(timeout_ms=int(timeout_s * 1000), max_records=_MAX_RECORDS)
        except KafkaError as error:
            raise Retryable(f"reading the inboxes: {error!r}") from error
        for place, records in fetched.items():
            if records:
                self._next.setdefault(place, records[0].offset)
        return [self._record(record) for records in fetched.values() for record in records]

    async def commit(self, records: Sequence[InboxRecord]) -> None:
        """See the port. A partition that another member has by now is left to it, and a log line says so."""
        mine = self._consumer.assignment()
        ends: dict[TopicPartition, int] = {}
        for record in records:
            place = TopicPartition(record.topic, record.partition)
            if place in mine:
                ends[place] = max(ends.get(place, 0), record.offset + 1)
        try:
            if ends:
                await self._consumer.commit(ends)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("partitions moved before their records were committed; they come again: %r", error)
            self._next.clear()
            return
        except KafkaError as error:
            raise Retryable(f"committing the inboxes: {error!r}") from error
        self._next = {place: n for place, n in self._next.items() if place in mine} | ends

    def lag(self) -> dict[tuple[str, int], int]:
        """(topic, partition) → records that wait and are not committed, of this member's partitions."""
        found = {}
        for place in self._consumer.assignment():
            end = self._consumer.highwater(place)
            if end is not None:
                found[place.topic, place.partition] = max(0, end - self._next.get(place, end))
        return found

    def _record(self, record: Any) -> InboxRecord:
        appended = None
        if record.timestamp_type == _APPEND_TIME and record.timestamp >= 0:
            appended = _EPOCH + dt.timedelta(milliseconds=record.timestamp)
        return InboxRecord(
            tenant=self._tenants[record.topic],
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            value=record.value,
            headers=tuple(record.headers),
            appended=appended,
        )
