"""Phoenix's own client: annotations of a span, a document and a trace, a note; then one of a session."""

import os

import httpx
from interaction import (
    ANSWER_SPAN_ID,
    COMMENT,
    RATING,
    RATING_VALUE,
    RELEVANCE,
    RELEVANT_POSITION,
    RETRIEVAL_SPAN_ID,
    SESSION_ID,
    THUMB,
    TRACE_ID,
)
from phoenix.client import Client

client = Client(base_url=os.environ["RATCHET_URL"], api_key=os.environ["RATCHET_KEY"])
trace = client.traces.add_trace_annotation(
    trace_id=TRACE_ID, annotation_name=THUMB, annotator_kind="HUMAN", score=1, sync=True
)
assert trace is not None
assert trace["id"]
inserted = client.spans.add_span_annotation(
    span_id=ANSWER_SPAN_ID,
    annotation_name=RATING,
    annotator_kind="HUMAN",
    score=RATING_VALUE,
    sync=True,
)
assert inserted is not None
assert inserted["id"]
document = client.spans.add_document_annotation(
    span_id=RETRIEVAL_SPAN_ID,
    document_position=RELEVANT_POSITION,
    annotation_name=RELEVANCE,
    annotator_kind="HUMAN",
    score=1,
    sync=True,
)
assert document is not None
assert document["id"]
faithfulness = client.spans.add_span_annotation(
    span_id=ANSWER_SPAN_ID,
    annotation_name="faithfulness",
    annotator_kind="LLM",
    label="faithful",
    score=1,
    explanation="all of it is in the second document",
)
assert faithfulness is None
many = client.spans.log_document_annotations(
    document_annotations=[
        {
            "span_id": RETRIEVAL_SPAN_ID,
            "document_position": position,
            "name": "relevance",
            "annotator_kind": "LLM",
            "result": {"label": "irrelevant", "score": 0},
        }
        for position in (0, 2)
    ],
    sync=True,
)
assert many is not None
assert len({one["id"] for one in many}) == 2
note = client.spans.add_span_note(span_id=ANSWER_SPAN_ID, note=COMMENT)
assert note["id"]
try:
    client.sessions.add_session_annotation(
        session_id=SESSION_ID, annotation_name="satisfaction", annotator_kind="HUMAN", score=4, sync=True
    )
except httpx.HTTPStatusError as error:
    print("of a session it says:", error)
else:
    raise AssertionError("an annotation of a session must be refused")
