"""`--as-of`: offsets, or a time that is translated to offsets once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from schemas.errors import Fatal
from schemas.topics import TOPICS

if TYPE_CHECKING:
    from infra.kafka.log import KafkaLogReader

#: Topic → partition → next offset.
Offsets = dict[str, dict[int, int]]


async def read_as_of(log: KafkaLogReader, text: str | None) -> Offsets:
    """The offsets that are meant, of every topic: the present ends if nothing is said.

    Of a partition that the offsets do not name, nothing. Raises Fatal: not understood, or beyond the log.
    """
    ends = {topic.name: await log.end_offsets(topic.name) for topic in TOPICS}
    if text is None:
        return ends
    named = _parse_offsets(text)
    if named is None:
        at_ms = int(parse_time(text).timestamp() * 1000)
        return {topic.name: await log.offsets_at(topic.name, at_ms) for topic in TOPICS}
    for topic, offsets in named.items():
        if topic not in ends:
            raise Fatal(f"expected topics among {', '.join(ends)}, got {topic!r}")
        for partition, offset in offsets.items():
            end = ends[topic].get(partition)
            if end is None or not 0 <= offset <= end:
                raise Fatal(
                    f"{topic}, partition {partition}: expected an offset of 0 to "
                    f"{'no partition of that number' if end is None else end}, got {offset}"
                )
    return {topic: {p: named.get(topic, {}).get(p, 0) for p in ends[topic]} for topic in ends}


def parse_time(text: str) -> dt.datetime:
    """A time as a person writes it; UTC where no zone is said. Raises Fatal."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise Fatal(
            f"expected offsets (JSON or a file of it) or a time such as 2026-06-01T12:00:00Z, got {text!r}"
        ) from error
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=dt.UTC)


def _parse_offsets(text: str) -> Offsets | None:
    content = text.encode()
    if not text.lstrip().startswith("{"):
        path = Path(text)
        if not path.is_file():
            return None
        content = path.read_bytes()
    try:
        return msgspec.json.decode(content, type=Offsets)
    except msgspec.MsgspecError as error:
        raise Fatal(f"expected offsets as topic → partition → next offset, but {error}") from error
