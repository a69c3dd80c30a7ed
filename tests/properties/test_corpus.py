"""The corpus is the same for any order and repetition of its events, and readers see every change."""

from __future__ import annotations

import datetime as dt

from hypothesis import given
from hypothesis import strategies as st

from learners.corpus import Corpus
from schemas.codec import seal_event
from schemas.documents import DocumentRemoved, DocumentStored
from schemas.envelope import Event

START = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)


@st.composite
def document_events(draw: st.DrawFn) -> Event:
    """An event of one of three documents, under one of a few ids, received within some seconds."""
    document_id = draw(st.sampled_from(["a", "b", "c"]))
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
        id=draw(st.sampled_from(["1", "2", "3", "4"])),
        source="app",
        tenant="acme",
        recordedtime=START + dt.timedelta(seconds=draw(st.integers(0, 5))),
    )


def expected(events: list[Event]) -> dict[str, str]:
    """The plain model: one record per event, then the largest per document."""
    chosen: dict[tuple[str | None, str], Event] = {}
    for event in sorted(events, key=lambda e: (e.recordedtime, e.contenthash), reverse=True):
        chosen[event.subject, event.id] = event
    latest: dict[str, Event] = {}
    for event in sorted(chosen.values(), key=lambda e: (e.recordedtime, e.contenthash)):
        latest[event.subject or ""] = event
    return {name: event.contenthash for name, event in latest.items() if "stored" in event.type}


def build(events: list[Event]) -> Corpus:
    corpus = Corpus()
    for event in events:
        corpus.apply(event)
    return corpus


@given(st.lists(document_events(), max_size=15), st.randoms())
def test_order_and_repetition_change_nothing(events: list[Event], random: object) -> None:
    shuffled = [*events, *events]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert list(build(events).current()) == list(build(shuffled).current())
    assert {document.document_id for document in build(events).current()} == set(expected(events))


@given(st.lists(document_events(), max_size=15), st.integers(0, 15))
def test_changes_since_bring_a_reader_up_to_date(events: list[Event], cut: int) -> None:
    corpus = build(events[:cut])
    seen = {document.document_id: document for document in corpus.current()}
    generation = corpus.generation
    for event in events[cut:]:
        corpus.apply(event)
    put, removed = corpus.changes_since(generation)
    for document_id in removed:
        seen.pop(document_id, None)
    seen |= {document.document_id: document for document in put}
    assert seen == {document.document_id: document for document in corpus.current()}
