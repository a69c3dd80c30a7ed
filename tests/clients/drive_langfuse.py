"""Langfuse's own client, any version from 3 on: scores of every kind, then one that names no query."""

import logging
import os

from interaction import (
    ANSWER,
    ANSWER_SPAN_ID,
    COMMENT,
    CORRECTION,
    NOTE,
    OUTPUT,
    QUESTION,
    SESSION_ID,
    THUMB,
    TRACE_ID,
)
from langfuse import Langfuse


class Complaints(logging.Handler):
    """What the client logs when it is not content."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


complaints = Complaints()
for name in ("langfuse", "backoff"):
    logging.getLogger(name).addHandler(complaints)
client = Langfuse(
    public_key="pk-lf-shop", secret_key=os.environ["RATCHET_KEY"], host=os.environ["RATCHET_URL"], flush_at=20
)
assert client.auth_check()
client.create_score(name=THUMB, value=1, trace_id=TRACE_ID, data_type="BOOLEAN")
client.create_score(name=NOTE, value=COMMENT, trace_id=TRACE_ID, data_type="TEXT")
client.create_score(name=OUTPUT, value=CORRECTION, trace_id=TRACE_ID, data_type="CORRECTION")
client.flush()
client.create_score(
    name="accuracy", value=0.92, trace_id=TRACE_ID, data_type="NUMERIC", score_id="score-1", comment=COMMENT
)
client.create_score(
    name="sentiment",
    value="positive",
    trace_id=TRACE_ID,
    observation_id=ANSWER_SPAN_ID,
    data_type="CATEGORICAL",
    metadata={"page": 2},
)
client.flush()
assert not complaints.texts, complaints.texts
client.create_score(name="satisfaction", value=4.0, session_id=SESSION_ID)
client.create_score(name="accuracy", value=0.5, trace_id=TRACE_ID, score_id="score-2")
client.flush()
told = len(complaints.texts)
with client.start_as_current_observation(as_type="span", name="chat", input=QUESTION) as root:
    with client.start_as_current_observation(
        as_type="generation",
        name="speak",
        model="m-1",
        input=[{"role": "user", "content": QUESTION}],
        output=ANSWER,
        usage_details={"input": 10, "output": 5},
    ):
        pass
    root.update(output=ANSWER)
    client.score_current_trace(name=THUMB, value=1, data_type="BOOLEAN")
client.flush()
assert len(complaints.texts) == told, complaints.texts[told:]
print("of the refused score it says:", complaints.texts)
assert complaints.texts
