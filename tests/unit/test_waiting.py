"""Feedback that waits: what it becomes, and what it costs to look for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pytest

from schemas.codec import decode_payload, encode_event
from schemas.envelope import Event
from schemas.errors import Fatal, Retryable
from schemas.interactions import FeedbackGiven, Target
from schemas.waiting import FeedbackReferred, QueryNamed, answer_reference, span_reference
from streams.batch import BatchProcessor
from streams.memory import MemoryLog, MemoryStore
from streams.ports import ReferenceKey
from streams.settings import StreamSettings
from streams.waiting import ReferenceResolver
from tests.small_log import messages_of, sealed

ANSWER, SPAN = answer_reference("a1"), span_reference("b7")


class CountingStore(MemoryStore):
    """A store that counts statements."""

    statements = 0

    async def names_of(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, bytes]:
        self.statements += 1
        return await super().names_of(references)

    async def referred_to(self, references: Collection[ReferenceKey]) -> dict[ReferenceKey, list[bytes]]:
        self.statements += 1
        return await super().referred_to(references)


class Interactions:
    """A log that refuses the first appends."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.events: list[Event] = []

    async def append(self, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise Retryable("not confirmed")
        self.events += events


def worker(store: MemoryStore, log: Interactions, *, retry_for_s: float = 5.0) -> BatchProcessor:
    resolver = ReferenceResolver(store, log, retry_for_s=retry_for_s)
    return BatchProcessor(store, store, MemoryLog(), StreamSettings(), resolver=resolver)


def referred(reference: str = ANSWER, event_id: str = "f1", target: Target | None = None) -> Event:
    payload = FeedbackReferred(
        reference=reference,
        kind="score",
        value=0.5,
        text="why",
        rater="llm",
        name="faithfulness",
        attributes={"judge": "m1"},
        target=target or Target(kind="answer", answer_id="a1"),
    )
    return sealed(payload, event_id, at_s=5, door="otlp", timetrusted=True)


def named(query_id: str = "q1", reference: str = ANSWER, at_s: float = 9) -> Event:
    return sealed(QueryNamed(reference=reference, query_id=query_id), f"n-{query_id}", at_s=at_s)


async def test_feedback_is_passed_on_as_it_was_with_its_own_identity_and_times() -> None:
    log = Interactions()
    waited = referred()
    await worker(MemoryStore(), log).process("waiting", messages_of([waited, named()]))
    (event,) = log.events
    assert (event.identity.tenant, event.subject, event.ref) == ("acme", "q1", waited.ref)
    assert (event.time, event.recordedtime) == (waited.time, waited.recordedtime)
    assert (event.door, event.timetrusted, event.type) == ("otlp", True, "ratchet.feedback.given.v1")
    assert decode_payload(event) == FeedbackGiven(
        query_id="q1",
        kind="score",
        value=0.5,
        text="why",
        rater="llm",
        name="faithfulness",
        attributes={"judge": "m1"},
        target=Target(kind="answer", answer_id="a1"),
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_either_may_come_first_and_a_repeat_is_the_same_bytes(order: tuple[int, int]) -> None:
    store, log = MemoryStore(), Interactions()
    messages = messages_of([referred(), named()])
    for place in (*order, *order):
        await worker(store, log).process("waiting", [messages[place]])
    assert len({encode_event(event) for event in log.events}) == 1


async def test_a_later_name_moves_nothing() -> None:
    store, log = MemoryStore(), Interactions()
    early = [named("q2", at_s=9), referred(), named("q1", at_s=1), referred(event_id="f2")]
    processor = worker(store, log)
    for message in messages_of(early):
        await processor.process("waiting", [message])
    assert [(event.id, event.subject) for event in log.events] == [("f1", "q2"), ("f2", "q2")]


async def test_a_name_that_nothing_waits_for_costs_no_statement() -> None:
    store = CountingStore()
    processor = worker(store, Interactions())
    await processor.process("waiting", messages_of(named(f"q{n}", f"answer:{n}") for n in range(50)))
    assert store.statements == 0
    await processor.process("waiting", messages_of([referred("answer:other")], first_offset=50))
    assert store.statements == 1
    await processor.process("waiting", messages_of([named("q9", "answer:other")], first_offset=51))
    assert store.statements == 3


async def test_a_rebuild_passes_nothing_on() -> None:
    store = MemoryStore()
    processor = BatchProcessor(store, store, MemoryLog(), StreamSettings())
    report = await processor.process("waiting", messages_of([referred(), named()]))
    assert report.new_records == len(store.rows("waiting")) == 2


async def test_nothing_is_stored_until_what_waited_is_confirmed() -> None:
    store, log = MemoryStore(), Interactions(failures=2)
    messages = messages_of([referred(), named()])
    await worker(store, log).process("waiting", messages)
    assert len(log.events) == 1

    store, log = MemoryStore(), Interactions(failures=10_000)
    with pytest.raises(Fatal):
        await worker(store, log, retry_for_s=0.1).process("waiting", messages)
    assert store.rows("waiting") == []


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ({}, Target(kind="span", span_id="b7"), Target(kind="span", span_id="b7")),
        (
            {"answer_id": "a2"},
            Target(kind="answer", answer_id="a1"),
            Target(kind="answer", answer_id="a2"),
        ),
        (
            {"answer_id": "b7"},
            Target(kind="span", span_id="b7"),
            Target(kind="answer", answer_id="b7", span_id="b7"),
        ),
        (
            {"retrieval_id": "b7"},
            Target(kind="span", span_id="b7"),
            Target(kind="retrieval", retrieval_id="b7", span_id="b7"),
        ),
        (
            {"retrieval_id": "b7"},
            Target(kind="span", span_id="b7", rank=3),
            Target(kind="document", retrieval_id="b7", span_id="b7", rank=3),
        ),
        (
            {"retrieval_id": "b7"},
            Target(kind="document", document_id="d1"),
            Target(kind="document", retrieval_id="b7", document_id="d1"),
        ),
        ({"answer_id": "a2"}, Target(kind="document", rank=1), Target(kind="document", rank=1)),
        ({"retrieval_id": "b7"}, Target(), Target()),
    ],
)
def test_a_name_says_what_the_reference_is(name: dict[str, str], target: Target, expected: Target) -> None:
    assert QueryNamed(reference=SPAN, query_id="q1", **name).place(target) == expected
