"""The log folded up to given offsets: what a dataset is frozen from. Reads Kafka only, no store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence

from schemas.corpus import Corpus
from schemas.documents import DocumentStored
from schemas.episodes import Episode
from schemas.lifecycle import PartitionOffsets
from schemas.topics import DOCUMENTS, INTERACTIONS
from streams.fold import fold_episode
from streams.ports import LogReader, Offsets
from streams.records import Record, decode_record
from streams.rejecting import read_messages


async def fold_as_of(
    reader: LogReader, tenant: str, offsets: Mapping[str, PartitionOffsets]
) -> AsyncIterator[Episode]:
    """The tenant's episodes from all records of `interactions` before `offsets`, by query_id.

    Equal offsets give equal episodes for ever. What cannot be read or folded is left out, as in the store.
    Holds the tenant's records in memory (their bytes, about 1 KB each) until it is exhausted.
    """
    values: dict[str, list[bytes]] = {}
    prefix = f"{tenant}/".encode()
    async for messages in reader.read(INTERACTIONS, _numbers(offsets.get(INTERACTIONS, {}))):
        read, _ = read_messages(message for message in messages if message.key.startswith(prefix))
        for arrival, _ in read:
            if arrival.event.tenant == tenant:
                values.setdefault(arrival.event.subject or "", []).append(arrival.value)
    for query_id in sorted(values):
        episode = fold_passing([decode_record(value) for value in values.pop(query_id)])
        if episode is not None:
            yield episode


def fold_passing(records: Sequence[Record]) -> Episode | None:
    """The episode of these records, without those that the fold raises on; None if none is left.

    Which are left out does not depend on the order: they are tried by received time.
    """
    try:
        return fold_episode(records)
    except Exception:
        ordered = sorted(records, key=lambda r: (r.event.recordedtime, r.event.contenthash))
        passing = _passing([], ordered)
        return fold_episode(passing) if passing else None


def _passing(known: list[Record], more: Sequence[Record]) -> list[Record]:
    """`known` and those of `more` that the fold takes beside it, found by halving."""
    try:
        fold_episode([*known, *more])
    except Exception:
        if len(more) == 1:
            return known
        half = len(more) // 2
        return _passing(_passing(known, more[:half]), more[half:])
    return [*known, *more]


async def fold_documents_as_of(
    reader: LogReader, tenant: str, offsets: Mapping[str, PartitionOffsets]
) -> list[DocumentStored]:
    """The tenant's documents that stand after all records of `documents` before `offsets`, by document_id."""
    corpus = Corpus()
    prefix = f"{tenant}/".encode()
    async for messages in reader.read(DOCUMENTS, _numbers(offsets.get(DOCUMENTS, {}))):
        read, _ = read_messages(message for message in messages if message.key.startswith(prefix))
        for arrival, record in read:
            if arrival.event.tenant == tenant:
                corpus.apply(record.event, record.payload)
    return list(corpus.current())


def _numbers(offsets: PartitionOffsets) -> Offsets:
    return {int(partition): end for partition, end in offsets.items()}
