"""The learner's ports, bound: what it must not import itself (`streams` folds, `infra` reads)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from infra.kafka.log import KafkaLogReader, as_text, committed_offsets
from learners.ports import CurrentDocument, Offsets
from schemas.documents import text_hash
from schemas.episodes import Episode
from streams.asof import fold_as_of, fold_documents_as_of


class LogFolds:
    """Episodes, documents and offsets straight from the log."""

    def __init__(self, bootstrap: str, group: str) -> None:
        self._bootstrap = bootstrap
        self._group = group
        self._reader = KafkaLogReader(bootstrap)

    def episodes(self, tenant: str, offsets: Offsets) -> AsyncIterator[Episode]:
        """`EpisodesAsOf`."""
        return fold_as_of(self._reader, tenant, offsets)

    async def documents(self, tenant: str, offsets: Offsets) -> Sequence[CurrentDocument]:
        """`DocumentsAsOf`."""
        return [
            CurrentDocument(
                document_id=found.document_id,
                title=found.title,
                text=found.text,
                text_hash=text_hash(found.title, found.text),
            )
            for found in await fold_documents_as_of(self._reader, tenant, offsets)
        ]

    async def ends(self, topics: Sequence[str]) -> Offsets:
        """`LogOffsets`."""
        return as_text({topic: await self._reader.end_offsets(topic) for topic in topics})

    async def committed(self) -> Offsets:
        """What the stream worker has committed."""
        return as_text(await committed_offsets(self._bootstrap, self._group))
