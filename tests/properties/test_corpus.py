"""The corpus is the same for any order and repetition of its events, and readers see every change."""

from __future__ import annotations

import datetime as dt

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode_payload, encode_event, seal_event
from schemas.corpus import Corpus
from schemas.documents import DocumentRemoved, DocumentStored
from schemas.envelope import Event
from schemas.ids import Identity
from streams.asof import fold_documents_as_of
from streams.memory import MemoryLog

START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
DOCUMENTS = ("a", "b", "c")


@st.composite
def document_events(draw: st.DrawFn) -> Event:
    """An event of one of three documents, under one of a few ids, received within some seconds."""
    document_id = draw(st.sampled_from(DOCUMENTS))
    payload = draw(
        st.one_of(
            st.just(DocumentRemoved(document_id=document_id)),
            st.sampled_from(["x", "y", "z"]).map(
                lambda text: DocumentStored(document_id=document_id, text=text)
            ),
        )
    )
    return seal_event(
        payload,
        id=draw(st.sampled_from(["1", "2", "3"])),
        source=draw(st.sampled_from(["app", "import"])),
        tenant="acme",
        recordedtime=START + dt.timedelta(seconds=draw(st.integers(0, 5))),
    )


def received_later(event: Event) -> Event:
    """Another event with the same content, received after all others."""
    later = event.recordedtime + dt.timedelta(hours=1)
    return msgspec.structs.replace(event, id=f"{event.id}-later", recordedtime=later)


def age(event: Event) -> tuple[dt.datetime, str]:
    return event.recordedtime, event.contenthash


def expected(events: list[Event]) -> list[DocumentStored]:
    """The plain reference: of each event its smallest record, of each document the largest event."""
    smallest: dict[Identity, Event] = {}
    for event in sorted(events, key=age, reverse=True):
        smallest[event.identity] = event
    latest: dict[str | None, Event] = {}
    for event in sorted(smallest.values(), key=age):
        latest[event.subject] = event
    payloads = [decode_payload(event) for _, event in sorted(latest.items())]
    return [payload for payload in payloads if isinstance(payload, DocumentStored)]


def build(events: list[Event]) -> Corpus:
    corpus = Corpus()
    for event in events:
        corpus.apply(event, decode_payload(event))
    return corpus


@st.composite
def repeated(draw: st.DrawFn, events: list[Event]) -> list[Event]:
    """The events in any order, each of them once or more."""
    again = draw(st.lists(st.sampled_from(events), max_size=10)) if events else []
    return draw(st.permutations([*events, *again]))


@given(st.data(), st.lists(document_events(), max_size=15))
def test_any_order_and_repetition_gives_the_plain_references_documents(
    data: st.DataObject, events: list[Event]
) -> None:
    corpus = build(data.draw(repeated(events)))
    assert list(corpus.current()) == expected(events)
    assert {d.document_id: d for d in expected(events)} == {
        name: found for name in DOCUMENTS if (found := corpus.get(name)) is not None
    }


@given(st.data(), st.lists(document_events(), max_size=15), st.integers(0, 15))
async def test_the_log_gives_the_same_documents_up_to_its_offsets(
    data: st.DataObject, events: list[Event], later: int
) -> None:
    log = MemoryLog()
    for event in data.draw(repeated(events)):
        log.put("documents", encode_event(event), key=f"acme/{event.subject}".encode())
        log.put("documents", encode_event(msgspec.structs.replace(event, tenant="other")), key=b"other/a")
    ends = {
        "documents": {str(partition): end for partition, end in (await log.end_offsets("documents")).items()}
    }
    for event in events[:later]:
        log.put("documents", encode_event(received_later(event)), key=f"acme/{event.subject}".encode())
    assert await fold_documents_as_of(log, "acme", ends) == expected(events)


@given(st.lists(document_events(), max_size=15), st.integers(0, 15))
def test_changes_since_bring_a_reader_up_to_date(events: list[Event], cut: int) -> None:
    corpus = build(events[:cut])
    seen = {document.document_id: document for document in corpus.current()}
    generation = corpus.generation
    for event in events[cut:]:
        corpus.apply(event, decode_payload(event))
    put, removed = corpus.changes_since(generation)
    for document_id in removed:
        seen.pop(document_id, None)
    seen |= {document.document_id: document for document in put}
    assert seen == {document.document_id: document for document in corpus.current()}


def test_a_text_that_is_sent_again_every_night_is_kept_once() -> None:
    texts = ["x" * 1_000 for _ in range(50)]
    corpus = build(
        [
            seal_event(
                DocumentStored(document_id="a", text=text),
                id=f"night-{night}",
                source="import",
                tenant="acme",
                recordedtime=START + dt.timedelta(days=night),
            )
            for night, text in enumerate(texts)
        ]
    )
    kept = [change.document for change in corpus._histories["a"].events.values()]
    assert len(kept) == 50
    assert {id(document) for document in kept} == {id(corpus.get("a"))}
