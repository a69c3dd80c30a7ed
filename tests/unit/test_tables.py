"""Rows of a table as events: columns, constants, value maps, times, ids, and what a row cannot say."""

from __future__ import annotations

import datetime as dt
import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.admission import Admission, Rejection
from ingest.formats.items import Undecoded
from ingest.formats.pieces import Format
from ingest.formats.starters import starter_mapping
from ingest.formats.tables import MappingError, read_mapping, table_format
from ingest.settings import IngestSettings
from schemas.codec import decode_payload
from schemas.envelope import Event
from schemas.interactions import AnswerGiven, FeedbackGiven, QueryAsked, RetrievalServed

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
SHOP = """
source = "urn:import:shop"
time = { column = "at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }

[[event]]
type = "query.asked"
data = { query_id = "qid", text = "question", user = "who", "attributes.country.code" = "land" }

[[event]]
type = "retrieval.served"
when = "docs"
data.query_id = "qid"
data.retrieval_id = "qid"
data.hits = { column = "docs", split = ";" }
data.latency_ms = "took"

[[event]]
type = "feedback.given"
when = { column = "rating", is = ["good", "bad"] }
data.query_id = "qid"
data.kind = { constant = "thumb" }
data.value = { column = "rating", values = { good = 1, bad = -1 } }
"""
ROW = {
    "qid": "q1",
    "question": "where is it",
    "who": "u1",
    "land": "DE",
    "docs": "a; b;",
    "took": "12.5",
    "rating": "bad",
    "at": "01.07.2024 09:00",
}


def shop(id_column: str = "", text: str = SHOP, columns: list[str] | None = None) -> Format:
    return table_format("csv", read_mapping(tomllib.loads(text), id_column=id_column), columns)


def admit(format: Format, row: dict[str, Any]) -> list[Event | Rejection | Undecoded]:
    admission = Admission(IngestSettings())
    return [
        item
        if isinstance(item, Undecoded)
        else admission.admit(item, tenant="acme", door="file", received=NOW, timetrusted=True)
        for item in format.read(json.dumps(row).encode())
    ]


def events(format: Format, row: dict[str, Any]) -> list[Event]:
    found = admit(format, row)
    assert all(isinstance(one, Event) for one in found), found
    return [one for one in found if isinstance(one, Event)]


def test_a_row_says_several_things() -> None:
    asked, served, rated = events(shop(columns=list(ROW)), ROW)
    assert {event.time for event in (asked, served, rated)} == {dt.datetime(2024, 7, 1, 7, tzinfo=dt.UTC)}
    query = decode_payload(asked)
    assert isinstance(query, QueryAsked)
    assert (query.text, query.user, query.attributes) == ("where is it", "u1", {"country.code": "DE"})
    retrieval = decode_payload(served)
    assert isinstance(retrieval, RetrievalServed)
    assert [(hit.document_id, hit.rank) for hit in retrieval.hits] == [("a", 1), ("b", 2)]
    assert retrieval.latency_ms == 12.5
    thumb = decode_payload(rated)
    assert isinstance(thumb, FeedbackGiven)
    assert (thumb.kind, thumb.value) == ("thumb", -1)


def test_the_content_of_a_row_names_its_events_whatever_its_order() -> None:
    first = [event.id for event in events(shop(), ROW)]
    assert len(set(first)) == 3
    assert [event.id for event in events(shop(), dict(reversed(ROW.items())))] == first
    assert [event.id for event in events(shop(), {**ROW, "unused": "x"})] != first
    # another mapping of the same row: the same events with other content, so a conflict, not a double
    other = shop(text=SHOP.replace("bad = -1", "bad = 1"))
    assert [event.id for event in events(other, ROW)] == first


def test_a_column_names_the_row() -> None:
    ids = [event.id for event in events(shop("qid"), ROW)]
    assert ids == ["q1:query.asked", "q1:retrieval.served", "q1:feedback.given"]
    assert [event.id for event in events(shop("qid"), {**ROW, "question": "else"})] == ids
    (refused, *_) = admit(shop("who"), {**ROW, "who": None})
    assert isinstance(refused, Undecoded)
    assert refused.why.field == "who"


def test_an_event_may_have_a_column_as_its_very_id() -> None:
    text = '[[event]]\ntype = "query.asked"\nid = "row"\ndata = { query_id = "q", text = "t" }\n'
    (event,) = events(shop(text=text), {"row": 17, "q": 5, "t": "x"})
    assert (event.id, event.subject, event.source) == ("17", "5", "urn:ratchet:table")


def test_empty_cells_are_not_there() -> None:
    (asked,) = events(shop(), {**ROW, "docs": " ", "rating": "", "who": None, "land": "", "at": ""})
    assert asked.time is None
    query = decode_payload(asked)
    assert isinstance(query, QueryAsked)
    assert (query.user, query.attributes) == (None, {})


@pytest.mark.parametrize(
    ("changes", "field", "says"),
    [
        ({"question": ""}, "data.text", "needs 'text'"),
        ({"took": "soon"}, "data.latency_ms", "expected `float"),
        ({"took": "nan"}, "data.latency_ms", "expected `float"),
        ({"qid": ""}, "data.query_id", "needs 'query_id'"),
    ],
)
def test_admission_says_what_a_cell_should_be(changes: dict[str, str], field: str, says: str) -> None:
    refused = next(one for one in admit(shop(), {**ROW, **changes}) if isinstance(one, Rejection))
    assert (refused.field, says in refused.message) == (field, True), refused
    column = {"data.text": "question", "data.latency_ms": "took", "data.query_id": "qid"}[field]
    assert shop().field_of(field) == column


@pytest.mark.parametrize(
    ("changes", "field", "says", "kept"),
    [
        ({"at": "2024-07-01"}, "at", "expected a time as '%d.%m.%Y %H:%M', got '2024-07-01'", "time"),
        ({"rating": "so-so"}, "rating", "expected one of 'good', 'bad', got 'so-so'", "value"),
    ],
)
def test_what_is_refused_is_kept_as_an_event_that_can_be_mended(
    changes: dict[str, str], field: str, says: str, kept: str
) -> None:
    format = shop(text=SHOP.replace('is = ["good", "bad"]', "is = []"))
    refused = next(one for one in admit(format, {**ROW, **changes}) if isinstance(one, Undecoded))
    assert (refused.why.field, says in refused.why.message) == (field, True)
    original = json.loads(refused.original)
    assert original["id"]
    assert changes[field] in (original.get(kept), original["data"].get(kept))


@pytest.mark.parametrize(
    ("cell", "format", "zone", "expected"),
    [
        ("2024-07-01T09:00:00+02:00", "iso", "UTC", "2024-07-01T07:00:00+00:00"),
        ("2024-07-01 09:00", "iso", "America/New_York", "2024-07-01T13:00:00+00:00"),
        (1_719_817_200, "s", "UTC", "2024-07-01T07:00:00+00:00"),
        ("1719817200.5", "s", "UTC", "2024-07-01T07:00:00.500000+00:00"),
        (1_719_817_200_123, "ms", "UTC", "2024-07-01T07:00:00.123000+00:00"),
        ("1719817200123456789", "ns", "UTC", "2024-07-01T07:00:00.123457+00:00"),
    ],
)
def test_times(cell: Any, format: str, zone: str, expected: str) -> None:
    text = f'time = {{ column = "at", format = "{format}", zone = "{zone}" }}\n'
    text += '[[event]]\ntype = "query.asked"\ndata = { query_id = "q", text = "t" }\n'
    (event,) = events(shop(text=text), {"q": "q", "t": "t", "at": cell})
    assert event.time is not None
    assert event.time.isoformat() == expected


def test_what_a_cell_is_read_as() -> None:
    text = """
    [[event]]
    type = "answer.given"
    data = { query_id = "q", answer_id = "q", text = "t", cached = "c", input_tokens = "n", citations = "d" }
    [[event]]
    type = "query.asked"
    data.query_id = "q"
    data.text = "t"
    data."attributes.n" = { column = "n", as = "number" }
    data."attributes.s" = "n"
    data."attributes.c" = { column = "c", as = "boolean" }
    data.exposures = { column = "arms", as = "json" }
    """
    row = {
        "q": "q",
        "t": "t",
        "c": "Yes",
        "n": "7",
        "d": ["a", "b"],
        "arms": '[{"experiment":"e","arm":"x"}]',
    }
    answered, asked = events(shop(text=text), row)
    answer, query = decode_payload(answered), decode_payload(asked)
    assert isinstance(answer, AnswerGiven)
    assert isinstance(query, QueryAsked)
    assert (answer.cached, answer.input_tokens, [one.document_id for one in answer.citations]) == (
        True,
        7,
        ["a", "b"],
    )
    assert query.attributes == {"n": 7, "s": "7", "c": True}
    assert query.exposures[0].arm == "x"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "missing required field `event`"),
        ("event = []", "makes no event"),
        ('[[event]]\ntype = "query.askd"\ndata = {}', "did you mean 'query.asked'?"),
        ('[[event]]\ntype = "query.asked"\ndata = { txt = "q" }', "no field 'txt' (did you mean 'text'?)"),
        ('[[event]]\ntype = "query.asked"\ndata = { "text.x" = "q" }', "text has no inner fields"),
        ('[[event]]\ntype = "query.asked"\ndata = { text = { colum = "q" } }', "'text.colum': text has no"),
        ('[[event]]\ntype = "query.asked"\ndata = { text = { column = "q", constant = 1 } }', "one of them"),
        ('[[event]]\ntype = "query.asked"\ndata = { text = "nope" }', "no column 'nope'; there are qid"),
        ('[[event]]\ntype = "query.asked"\ndata = {}\n' * 2, "two events are called 'query.asked'"),
        (
            'time = { column = "at", zone = "Mars" }\n[[event]]\ntype = "query.asked"\ndata = {}',
            "no time zone",
        ),
        (
            '[[event]]\ntype = "feedback.given"\ndata = { target.constant = {}, "target.kind" = "qid" }',
            "another line sets it",
        ),
    ],
)
def test_a_mapping_that_says_nothing_is_refused_with_what_to_change(text: str, says: str) -> None:
    with pytest.raises(MappingError) as refused:
        shop(text=text, columns=["qid", "at"])
    assert says in str(refused.value)


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=8, unique=True))
def test_a_starter_is_a_mapping_of_these_columns(columns: list[str]) -> None:
    try:
        "".join(columns).encode()
    except UnicodeEncodeError:
        return
    text = starter_mapping(columns)
    mapping = read_mapping(tomllib.loads(text))
    table_format("csv", mapping, [*columns, "COLUMN"])


def test_a_starter_knows_usual_names() -> None:
    columns = [
        "Query ID",
        "query",
        "user_id",
        "ts",
        "results",
        "answer",
        "clicked",
        "rank",
        "rating",
        "note",
        "shop",
    ]
    mapping = read_mapping(tomllib.loads(starter_mapping(columns)))
    format = table_format("csv", mapping, columns)
    row = dict(
        zip(columns, ["q", "what", "u", "2024-01-01", "a;b", "so", "b", "2", "4", "fine", "x"], strict=True)
    )
    assert [event.type.split(".")[1] for event in events(format, row)] == [
        "query",
        "retrieval",
        "answer",
        "feedback",
        "feedback",
        "feedback",
    ]


@given(
    st.dictionaries(
        st.sampled_from(list(ROW)),
        st.recursive(
            st.one_of(
                st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=9)
            ),
            lambda inner: st.one_of(
                st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
            ),
            max_leaves=5,
        ),
    )
)
def test_no_row_can_stop_the_reader(row: dict[str, Any]) -> None:
    for format in (shop(), shop("qid")):
        for one in admit(format, row):
            assert isinstance(one, Event | Rejection | Undecoded)
