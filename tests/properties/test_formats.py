"""Every format takes any bytes: no crash, the same events each time; what it refuses can be sent again."""

from __future__ import annotations

import datetime as dt
import json
import re

from hypothesis import example, given
from hypothesis import strategies as st

from ingest.admission import Admission
from ingest.formats.items import Item, Undecoded
from ingest.formats.registry import FORMATS, decode, decode_original
from ingest.settings import IngestSettings
from schemas.errors import Rejectable

NOW = dt.datetime(2026, 3, 2, 9, 30, tzinfo=dt.UTC)
_ADMISSION = Admission(IngestSettings())
#: Members that some format knows, so that what is drawn gets past the first check.
_NAMES = re.findall(
    r"\w+",
    """
    id type body batch data name value traceId observationId sessionId comment metadata dataType timestamp
    input output model usage startTime endTime level metric_name inference_id episode_id tags dryrun
    annotator_kind result label score explanation identifier span_id trace_id session_id note
    document_position user_query query_id query_attributes query_response_hit_ids action_name
    event_attributes object object_id position ordinal assessment assessment_name feedback expectation
    rationale source source_type create_time role content messages specversion
    """,
)
_texts = st.sampled_from(
    (
        *("", " ", "t-1", "ü\x00", "NUMERIC", "BOOLEAN", "CORRECTION", "thumbs_up", "click", "comment"),
        *("score-create", "trace-create", "generation-update", "relevant"),
        *("2026-03-02T09:29:00Z", "0001-01-01T00:00:00+23:59"),
    )
)
_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
)
_values = st.recursive(
    _leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=8),
    max_leaves=20,
)
_bodies = st.binary(max_size=60) | _values.map(lambda value: json.dumps(value).encode())
_LINES = b'{"user_query": "a", "query_id": "q"}\nnonsense\n{"action_name": "click"}\n'


def _decode(name: str, body: bytes) -> list[Item]:
    """The items of a body; none if it is none of the format: nothing of it is kept then."""
    try:
        return decode(name, body)
    except Rejectable:
        return []


def _plain(items: list[Item]) -> list[object]:
    """Items as values that can be compared."""
    return [
        (one.original, one.why.reason, one.why.field, one.why.message)
        if isinstance(one, Undecoded)
        else bytes(one)
        for one in items
    ]


@given(name=st.sampled_from(sorted(FORMATS)), body=_bodies)
@example(name="ubi", body=_LINES)
@example(name="langfuse", body=b'{"batch": 5}')
@example(name="langfuse", body=b'{"type": "score-create", "body": "\xff"}')
@example(name="phoenix", body=b'{"data": [1, {"span_id": "a", "metadata": "\xff"}]}')
@example(name="mlflow", body=b"[" * 5000)
@example(name="tensorzero", body=b'{"metric_name": "a", "value": 1e999, "episode_id": "e"}')
def test_any_bytes_are_decoded_or_refused(name: str, body: bytes) -> None:
    items = _decode(name, body)
    assert _plain(items) == _plain(_decode(name, body))
    for item in items:
        if isinstance(item, Undecoded):
            assert item.why.message
            again = decode_original(name, item.original)
            assert [(item.original, item.why.reason)] == [
                (one.original, one.why.reason) for one in again if isinstance(one, Undecoded)
            ]
        else:
            _ADMISSION.admit(item, tenant="acme", door=name, received=NOW)


def test_a_bad_line_does_not_stop_the_others() -> None:
    good, bad, incomplete = FORMATS["ubi"].decode(_LINES)
    assert not isinstance(good, Undecoded)
    assert isinstance(bad, Undecoded)
    assert bad.original == b"nonsense"
    assert isinstance(incomplete, Undecoded)
