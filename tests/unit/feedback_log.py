"""A small log with topics: questions of a topic want its documents, and users click what they want."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Sequence

import numpy as np

from learners.freeze.groups import Vectors
from learners.ports import CurrentDocument
from schemas.documents import text_hash
from schemas.episodes import Episode, EpisodeRetrieval, TrainingPair
from schemas.ids import EventRef
from schemas.interactions import Hit

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DIMENSION = 32
TOPICS = 12
DOCUMENTS_A_TOPIC = 4


def document(document_id: str, text: str = "") -> CurrentDocument:
    text = text or f"text of {document_id}"
    return CurrentDocument(document_id=document_id, title="", text=text, text_hash=text_hash("", text))


def pair(
    document_id: str, *, kind: str = "click", label: int = 1, rank: int = 1, shown_text: str | None = None
) -> TrainingPair:
    return TrainingPair(
        query="",
        document_id=document_id,
        text_hash=shown_text,
        label=label,
        weight=0.7,
        kind=kind,
        retrieval_id="list",
        pipeline_version="1.0.0",
        rank=rank,
        propensity=None,
        events=(),
    )


def episode(
    number: int,
    text: str,
    *,
    shown: Sequence[str] = (),
    pairs: Sequence[TrainingPair] = (),
    hashes: Sequence[str | None] = (),
    shadow: bool = False,
    asked: bool = True,
) -> Episode:
    ref = EventRef("test", f"query-{number}")
    at = START + dt.timedelta(seconds=number)
    hits = tuple(
        Hit(document_id, rank, text_hash=hashes[rank - 1] if hashes else None)
        for rank, document_id in enumerate(shown, start=1)
    )
    served = EpisodeRetrieval(
        ref=EventRef("test", f"list-{number}"),
        retrieval_id="list",
        at=at,
        pipeline_version="1.0.0",
        shadow=shadow,
        exploration=False,
        latency_ms=None,
        error=None,
        hits=hits,
    )
    return Episode(
        tenant="t",
        query_id=f"q{number}",
        record_count=1,
        query_ref=ref if asked else None,
        asked_at=at,
        first_received_at=at,
        query_received_at=at if asked else None,
        text=text,
        unit=None,
        unit_kind="",
        attributes={},
        exposures=(),
        pipeline_version="1.0.0",
        retrievals=(served,) if shown else (),
        answers=(),
        feedback=(),
        retracted=(),
        pairs=tuple(pairs),
        measurements=(),
        repeats=0,
        conflicts=(),
        superseded=(),
        former_units=(),
    )


def encode(texts: Sequence[str]) -> Vectors:
    """`topic <n> …`: the topic's direction plus noise of the text's own; length 1."""
    rows = np.zeros((len(texts), DIMENSION), np.float32)
    for row, text in enumerate(texts):
        topic = int(text.split()[1])
        centre = np.random.default_rng(topic).normal(size=DIMENSION)
        own = np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]))
        rows[row] = centre / np.linalg.norm(centre) + own.normal(0, 0.6 / DIMENSION**0.5, DIMENSION)
    vectors: Vectors = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    return vectors


CORPUS = [document(f"d{topic}-{n}") for topic in range(TOPICS) for n in range(DOCUMENTS_A_TOPIC)]


def feedback_log(
    length: int, *, seed: int = 0, shuffled: bool = False, confirm: float = 0.9
) -> list[Episode]:
    """Lists of eight, two or three of them wanted; deep ranks are seen less; some clicks are noise."""
    rng = np.random.default_rng(seed)
    lists, clicks = [], []
    for number in range(length):
        topic = int(rng.integers(TOPICS))
        wanted = [f"d{topic}-{n}" for n in rng.permutation(DOCUMENTS_A_TOPIC)[: rng.integers(2, 4)]]
        others = [CORPUS[i].document_id for i in rng.permutation(len(CORPUS))]
        others = [other for other in others if not other.startswith(f"d{topic}-")][: 8 - len(wanted)]
        shown = [(wanted + others)[i] for i in rng.permutation(8)]
        seen = rng.random(8) < 1 / np.sqrt(np.arange(1, 9))
        click = rng.random(8) < np.where([document_id in wanted for document_id in shown], confirm, 0.08)
        lists.append((f"topic {topic} number {number}", shown))
        clicks.append(np.flatnonzero(seen & click))
    order = rng.permutation(length) if shuffled else np.arange(length)
    return [
        episode(
            number,
            text,
            shown=shown,
            pairs=[pair(shown[place], rank=int(place) + 1) for place in clicks[order[number]]],
        )
        for number, (text, shown) in enumerate(lists)
    ]
