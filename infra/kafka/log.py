"""The log for its readers: topics that forget nothing, reading from the beginning, offsets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final, NamedTuple, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from infra.settings import KafkaSettings
from schemas.errors import Fatal, Retryable
from schemas.topics import GROWABLE, TOPICS, Topic
from streams.ports import Message, Offsets

#: What keeps a record for ever.
_NEVER_FORGET: Final = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
#: A record's time is when the broker appended it, not what its producer's clock said.
DATED_BY_BROKER: Final = {"message.timestamp.type": "LogAppendTime"}
#: How large a record, or a batch of records, may be.
_WIDTH: Final = "max.message.bytes"
#: `config_source` of what was set for the topic itself (KIP-226).
_OF_THE_TOPIC: Final = 1
_FETCH_BYTES: Final = 16 * 1024 * 1024
_READ_RECORDS: Final = 5_000


async def ensure_topics(settings: KafkaSettings) -> list[str]:
    """Create the topics that are missing and check the others; the names of those created.

    Idempotent. Topics that an older version made are configured as today's. Raises Fatal if a topic deletes
    records (unless `allow_forgetting`) or has another number of partitions than `schemas.topics` says (one
    that may grow: fewer); Retryable if no broker answers.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap)
    try:
        await admin.start()
    except KafkaError as error:
        await admin.close()
        raise Retryable(f"no Kafka broker answers at {settings.bootstrap}: {error!r}") from error
    try:
        created = await _create_missing(admin, settings.replication)
        await _check_partitions(admin)
        await configure(admin, {topic.name: DATED_BY_BROKER | _widths(topic) for topic in TOPICS})
        if not settings.allow_forgetting:
            await _check_retention(admin)
        return created
    except KafkaError as error:
        raise Retryable(f"looking after the topics at {settings.bootstrap}: {error!r}") from error
    finally:
        await admin.close()


async def _create_missing(admin: AIOKafkaAdminClient, replication: int) -> list[str]:
    present = set(await admin.list_topics())
    missing = [
        NewTopic(topic.name, topic.partitions, replication, topic_configs=new_configs(topic, replication))
        for topic in TOPICS
        if topic.name not in present
    ]
    if not missing:
        return []
    response = await admin.create_topics(missing)
    created = []
    for name, code, *text in response.topic_errors:
        if code == 0:
            created.append(name)
        elif for_code(code) is not TopicAlreadyExistsError:  # another process was faster: fine
            raise Fatal(f"Kafka refuses to create topic {name!r}: {for_code(code).__name__} {text}")
    return created


def new_configs(topic: Topic, replication: int) -> dict[str, str]:
    """What a topic is made with. From three copies on a record is acknowledged when two have it."""
    copies = {"min.insync.replicas": "2"} if replication >= 3 else {}
    return _NEVER_FORGET | DATED_BY_BROKER | copies | _widths(topic)


def _widths(topic: Topic) -> dict[str, str]:
    """The configuration of a topic whose records may be larger than Kafka lets them be unless told."""
    usual = Topic.__struct_defaults__[-1]
    return {} if topic.max_record_bytes == usual else {_WIDTH: str(topic.max_record_bytes)}


async def configure(admin: AIOKafkaAdminClient, wanted: Mapping[str, Mapping[str, str | None]]) -> None:
    """Set what topics have otherwise: topic → key → value, None for the broker's default.

    The broker shows it on return. A topic that takes larger records than it should is left so. Raises Fatal
    if Kafka refuses, Retryable, KafkaError.
    """
    for _ in range(100):
        if not await _change_configs(admin, wanted):
            return
        await asyncio.sleep(0.1)
    raise Retryable("Kafka does not show how its topics were configured")


async def _change_configs(
    admin: AIOKafkaAdminClient, wanted: Mapping[str, Mapping[str, str | None]]
) -> list[str]:
    """The topics that had to be changed."""
    done = []
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    for response in await admin.describe_configs(resources):
        for _code, _text, _type, name, entries in response.resources:
            own = {entry[0]: entry[1] for entry in entries if entry[3] == _OF_THE_TOPIC}
            known = {entry[0]: entry[1] for entry in entries}
            changed = {
                key: value
                for key, value in wanted[name].items()
                if (key in own if value is None else not _holds(key, known.get(key), value))
            }
            if changed:
                await _alter(admin, name, own, changed)
                done.append(name)
    return done


def _holds(key: str, found: str | None, wanted: str) -> bool:
    return int(found or 0) >= int(wanted) if key == _WIDTH else found == wanted


async def _alter(
    admin: AIOKafkaAdminClient, name: str, own: Mapping[str, str], changed: Mapping[str, str | None]
) -> None:
    # what is not named would go back to its default
    configs = {key: value for key, value in {**own, **changed}.items() if value is not None}
    for answer in await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, configs)]):
        for code, text, *_ in answer.resources:
            if code:
                settings = ",".join(f"{key}={value}" for key, value in changed.items() if value)
                raise Fatal(
                    f"Kafka refuses to configure topic {name!r} ({for_code(code).__name__} {text or ''}): "
                    f"run `kafka-configs --alter --topic {name} --add-config {settings}`"
                )


async def _check_partitions(admin: AIOKafkaAdminClient) -> None:
    # A topic is known to all brokers only a moment after it was created.
    for _ in range(50):
        found = await describe_partitions(admin)
        if all(found.get(topic.name) for topic in TOPICS):
            break
        await asyncio.sleep(0.1)
    for topic in TOPICS:
        there = found.get(topic.name, 0)
        if there == topic.partitions or (there > topic.partitions and topic.name in GROWABLE):
            continue
        raise Fatal(
            f"topic {topic.name!r} has {there} partitions, not {topic.partitions}: keys are not where they "
            "are looked for; copy the log into a new topic"
            + (f", or run `ratchet topics grow {topic.name}`" if topic.name in GROWABLE else "")
        )


async def describe_partitions(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """Topic of ours → how many partitions it has; one that does not exist is left out or 0."""
    described = await admin.describe_topics([topic.name for topic in TOPICS])
    return {one["topic"]: len(one["partitions"]) for one in described}


async def _check_retention(admin: AIOKafkaAdminClient) -> None:
    resources = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in TOPICS]
    for response in await admin.describe_configs(resources):
        for _code, _text, _type, name, entries in response.resources:
            values = {entry[0]: entry[1] for entry in entries}
            for key, expected in _NEVER_FORGET.items():
                if values.get(key) != expected:
                    raise Fatal(
                        f"topic {name!r} forgets: {key} is {values.get(key)!r}, expected {expected!r}. "
                        f"The log is the truth; run `kafka-configs --alter --topic {name} --add-config "
                        f"{key}={expected}`, or set kafka.allow_forgetting"
                    )


class KafkaLogReader:
    """`LogReader` on Kafka: every read is a consumer of its own, in no group."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap

    async def end_offsets(self, topic: str) -> dict[int, int]:
        """Partition → offset after the last record. Raises Retryable."""
        consumer = await _started(self._bootstrap)
        try:
            ends = await consumer.end_offsets(await _partitions(consumer, topic))
        except KafkaError as error:
            raise Retryable(f"reading end offsets of {topic}: {error!r}") from error
        finally:
            await consumer.stop()
        return {tp.partition: int(end) for tp, end in sorted(ends.items())}

    async def offsets_at(self, topic: str, timestamp_ms: int) -> dict[int, int]:
        """Partition → offset of the first record that came at `timestamp_ms` (since 1970) or later.

        The end of a partition where none did. Times are the broker's when it appended; of records that
        an older version appended, the producer's. Raises Retryable.
        """
        ends = await self.end_offsets(topic)
        consumer = await _started(self._bootstrap)
        try:
            found = await consumer.offsets_for_times({TopicPartition(topic, p): timestamp_ms for p in ends})
        except KafkaError as error:
            raise Retryable(f"reading offsets of {topic} by time: {error!r}") from error
        finally:
            await consumer.stop()
        return ends | {tp.partition: int(at.offset) for tp, at in found.items() if at is not None}

    async def read(
        self, topic: str, until: Offsets, since: Offsets | None = None
    ) -> AsyncIterator[list[Message]]:
        """Records from `since` (0) up to `until`, a partition after another. Raises Retryable, Fatal."""
        start = since or {}
        wanted = [TopicPartition(topic, p) for p, end in sorted(until.items()) if end > start.get(p, 0)]
        if not wanted:
            return
        consumer = await _started(self._bootstrap)
        try:
            for tp, first in (await consumer.beginning_offsets(wanted)).items():
                if first > start.get(tp.partition, 0):
                    raise Fatal(
                        f"{topic}, partition {tp.partition}, begins at offset {first}: the log has forgotten "
                        "what came before; nothing can be folded from it without a backup "
                        "(`ratchet rebuild --from-backup DIR`)"
                    )
            for tp in wanted:
                consumer.assign([tp])
                consumer.seek(tp, start.get(tp.partition, 0))
                end = until[tp.partition]
                while await consumer.position(tp) < end:
                    fetched = await consumer.getmany(tp, timeout_ms=1000, max_records=_READ_RECORDS)
                    batch = [_message(record) for record in fetched.get(tp, ()) if record.offset < end]
                    if batch:
                        yield batch
        except KafkaError as error:
            raise Retryable(f"reading {topic}: {error!r}") from error
        finally:
            await consumer.stop()


class PartitionProgress(NamedTuple):
    """How far a consumer group has come in one partition, in next offsets."""

    committed: int
    end: int


#: Topic → partition → progress.
Progress = dict[str, dict[int, PartitionProgress]]


class GroupProgress:
    """Committed and end offsets of a consumer group over our topics; an async context manager."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        """Connects. Raises Retryable."""
        self._consumer = await _started(self._bootstrap)
        try:
            await self._admin.start()
        except KafkaError as error:
            await self.__aexit__()
            raise Retryable(f"no Kafka broker answers at {self._bootstrap}: {error!r}") from error
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._admin.close()
        if self._consumer is not None:
            await self._consumer.stop()

    async def read(self) -> Progress:
        """The progress now; 0 is committed where nothing was yet. Raises Retryable.

        Committed is read first, so a lag is never shown smaller than it was. A coordinator that does not
        know the group's offsets (yet) is no answer: it would look as if nothing had ever been committed.
        """
        consumer = self._entered()
        try:
            partitions = await _partitions(consumer, *(topic.name for topic in TOPICS))
            # asked for by name, each has an answer, -1 where nothing was committed
            committed = await self._admin.list_consumer_group_offsets(self._group, partitions=partitions)
            ends = await consumer.end_offsets(partitions)
        except KafkaError as error:
            raise Retryable(f"reading the progress of {self._group}: {error!r}") from error
        if any(tp not in committed for tp in partitions):
            # the client does not look at the code of the answer as a whole (loading, moved)
            raise Retryable(f"the coordinator of group {self._group} does not know its offsets yet")
        progress: Progress = {}
        for tp in partitions:
            done = max(0, int(committed[tp].offset))
            progress.setdefault(tp.topic, {})[tp.partition] = PartitionProgress(done, int(ends[tp]))
        return progress

    async def members(self) -> list[str]:
        """`client@host` of each consumer that is in the group now. Raises Retryable.

        One with a static id stays a member for a session timeout after it has ended.
        """
        self._entered()
        try:
            (answer,) = await self._admin.describe_consumer_groups([self._group])
        except KafkaError as error:
            raise Retryable(f"asking who is in group {self._group}: {error!r}") from error
        ((code, _group, _state, _type, _protocol, members, *_more),) = answer.groups
        if code:
            raise Retryable(f"asking who is in group {self._group}: {for_code(code).__name__}")
        return [f"{client}@{host.lstrip('/')}" for _id, client, host, *_rest in members]

    def _entered(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            raise Fatal("the progress was not opened: enter it with `async with` first")
        return self._consumer


async def committed_offsets(bootstrap: str, group: str) -> dict[str, dict[int, int]]:
    """Topic → partition → committed next offset of the group; 0 where nothing was committed. Retryable."""
    async with GroupProgress(bootstrap, group) as progress:
        return {
            topic: {p: one.committed for p, one in ps.items()}
            for topic, ps in (await progress.read()).items()
        }


async def _started(bootstrap: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=_FETCH_BYTES,
        fetch_max_wait_ms=100,
    )
    try:
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise Retryable(f"no Kafka broker answers at {bootstrap}: {error!r}") from error
    return consumer


async def _partitions(consumer: AIOKafkaConsumer, *topics: str) -> list[TopicPartition]:
    """As many as there are now: the broker knows, and no cache is asked. Raises Retryable.

    The consumer learns of all topics at once; by itself it would wait a backoff for each (0.5 s for ours).
    """
    cluster = await consumer._client.fetch_all_metadata()
    found = {topic: cluster.partitions_for_topic(topic) or () for topic in topics}
    if missing := [topic for topic, numbers in found.items() if not numbers]:
        raise Retryable(f"topic {missing[0]!r} is not there (yet); create the topics first")
    await consumer._client.set_topics(topics)
    return [TopicPartition(topic, number) for topic, numbers in found.items() for number in sorted(numbers)]


def _message(record: Any) -> Message:
    return Message(
        record.topic,
        record.partition,
        record.offset,
        record.key or b"",
        record.value or b"",
        record.timestamp,
    )


def as_text(offsets: Mapping[str, Mapping[int, int]]) -> dict[str, dict[str, int]]:
    """Offsets as events carry them: partitions as text."""
    return {topic: {str(p): n for p, n in sorted(ps.items())} for topic, ps in offsets.items()}
