"""Feedback on an answer or span reaches the first query that names it: once, whoever reads what, how often.

The plain model: of a reference the first name in the log counts; each of its feedback records becomes one
record of that query. The workers read the log in any cuts, are killed before or after they store, and a
paused one goes on after its successor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct

from schemas.codec import decode_payload, encode_event
from schemas.envelope import Event
from schemas.interactions import FeedbackGiven, Target
from schemas.waiting import FeedbackReferred, QueryNamed
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.ports import Block, Message, ReferenceKey
from streams.settings import StreamSettings
from streams.waiting import ReferenceResolver
from tests.small_log import messages_of, sealed

FATES = ("", "", "", "before", "after", "forget", "look-up", "append", "insert")
REFERENCES = ("answer:a1", "span:b7", "answer:lonely")


class Killed(BaseException):
    """The process ends here."""


class Fate:
    """What happens to a worker while it has a batch in hand."""

    def __init__(self) -> None:
        #: Dies `before` or `after` it stores.
        self.dies = ""
        #: Stands still before it looks a name up, appends (`look-up`, `append`) or stores (`insert`).
        self.stands_still_at = ""
        self.goes_on = asyncio.Event()

    async def reach(self, place: str) -> None:
        if self.stands_still_at == place:
            await self.goes_on.wait()


class Interactions:
    """What was passed on: bytes, each once, as the store of events keeps them."""

    def __init__(self) -> None:
        self.records: set[bytes] = set()

    async def append(self, events: Sequence[Event]) -> None:
        self.records |= {encode_event(event) for event in events}


class Worker:
    """A processor over shared storage, with its own memory and fate: its own sink, look-up and log."""

    def __init__(self, store: MemoryStore, log: Interactions, max_remembered: int) -> None:
        self._store = store
        self._log = log
        self.fate = Fate()
        self.prepare = store.prepare
        self.referred_to = store.referred_to
        self.waiting_references = store.waiting_references
        resolver = ReferenceResolver(self, self, retry_for_s=1.0, max_remembered=max_remembered)
        self.processor = BatchProcessor(self, store, MemoryLog(), StreamSettings(), resolver=resolver)

    async def names_of(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, bytes]:
        await self.fate.reach("look-up")
        return await self._store.names_of(references)

    async def append(self, events: Sequence[Event]) -> None:
        await self.fate.reach("append")
        await self._log.append(events)

    async def insert(self, block: Block) -> None:
        await self.fate.reach("insert")
        if self.fate.dies == "before":
            raise Killed
        await self._store.insert(block)
        if self.fate.dies == "after":
            raise Killed

    async def read(self, messages: Sequence[Message], dies: str = "") -> bool:
        """Process a batch; whether it was acknowledged."""
        self.fate.dies = dies
        try:
            await self.processor.process("waiting", messages)
        except Killed:
            return False
        return True


def referred(reference: str, number: int, **more: Any) -> Event:
    kind = reference.partition(":")[0]
    target = Target(kind="answer", answer_id="a1") if kind == "answer" else Target(kind="span", span_id="b7")
    payload = FeedbackReferred(reference=reference, kind="thumb", value=1, target=target)
    return sealed(payload, f"f{number}", **more)


def named(reference: str, query_id: str, **more: Any) -> Event:
    return sealed(QueryNamed(reference=reference, query_id=query_id), f"n-{query_id}", **more)


records = st.one_of(
    st.builds(
        referred,
        st.sampled_from(REFERENCES),
        st.integers(1, 4),
        at_s=st.integers(0, 3),
        tenant=st.sampled_from(["acme", "acme", "other"]),
    ),
    st.builds(
        named,
        st.sampled_from(REFERENCES[:2]),
        st.sampled_from(["q1", "q2"]),
        at_s=st.integers(0, 3),
        tenant=st.sampled_from(["acme", "acme", "other"]),
    ),
)


def expected(log: Sequence[Event]) -> set[bytes]:
    """The plain model over the whole log."""
    query_of: dict[tuple[str, str], str] = {}
    pieces: list[tuple[tuple[str, str], Event, FeedbackReferred]] = []
    for event in log:
        payload: Struct = decode_payload(event)
        if isinstance(payload, QueryNamed):
            query_of.setdefault((event.tenant, payload.reference), payload.query_id)
        elif isinstance(payload, FeedbackReferred):
            pieces.append(((event.tenant, payload.reference), event, payload))
    return {
        encode_event(
            sealed(
                FeedbackGiven(
                    query_id=query_of[key], kind=payload.kind, value=payload.value, target=payload.target
                ),
                event.id,
                tenant=event.tenant,
                time=event.time,
                recordedtime=event.recordedtime,
            )
        )
        for key, event, payload in pieces
        if key in query_of
    }


@settings(max_examples=200, deadline=None)
@given(log=st.lists(records, max_size=14), max_remembered=st.sampled_from([0, 1, 1000]), data=st.data())
def test_feedback_reaches_the_first_query_that_names_its_reference(
    log: list[Event], max_remembered: int, data: st.DataObject
) -> None:
    store, passed_on = MemoryStore(), Interactions()
    asyncio.run(read_somehow(messages_of(log), lambda: Worker(store, passed_on, max_remembered), data))
    assert passed_on.records == expected(log)
    kept = {(e.tenant, e.subject, e.ref, e.recordedtime, e.contenthash) for e in log}
    assert len(store.rows("waiting")) == len(kept)


async def read_somehow(messages: Sequence[Message], start: Callable[[], Worker], data: st.DataObject) -> None:
    """Until every message is acknowledged, and every paused worker has gone on."""
    worker = start()
    paused: list[tuple[Worker, asyncio.Task[bool]]] = []

    async def wake() -> None:
        for sleeper, reading in paused:
            sleeper.fate.goes_on.set()
            await reading
        paused.clear()

    position = 0
    while position < len(messages):
        batch = messages[position : position + data.draw(st.integers(1, 6), "batch")]
        fate = data.draw(st.sampled_from(FATES), "fate")
        if fate in ("look-up", "append", "insert"):  # a successor reads the batch again
            worker.fate.stands_still_at = fate
            paused.append((worker, asyncio.create_task(worker.read(batch))))
            await asyncio.sleep(0)
            worker = start()
        elif fate == "forget":
            worker.processor.forget()
        elif await worker.read(batch, fate):
            position += len(batch)
        else:
            worker = start()
        if data.draw(st.booleans(), "the paused go on"):
            await wake()
    await wake()
