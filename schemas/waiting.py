"""Feedback that knows no query, and what names its query. Topic `waiting`, keyed by the reference.

A *reference* is `answer:<answer_id>` or `span:<span_id>`. The records of a reference are a set, as those of a
query are: once it holds a `query.named`, each `feedback.referred` in it is passed on to `interactions` as a
`feedback.given` of that query, under its own source, id and received time. So it is passed on once, however
often that is done, and whichever of the two came first.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schemas.interactions import Feedback, FeedbackGiven, QueryId

Reference = Annotated[
    str,
    Meta(
        pattern=r"^(answer|span):.",
        max_length=300,
        description="`answer:<answer_id>` or `span:<span_id>`: all that the sender knows.",
    ),
]


class FeedbackReferred(Feedback, frozen=True, kw_only=True, omit_defaults=True):
    """Feedback whose sender knows an answer or a span, and no query. `ratchet.feedback.referred.v1`.

    It waits, for ever if need be, until a record says to which query the reference belongs.
    """

    reference: Reference

    def given(self, query_id: str) -> FeedbackGiven:
        """The same feedback, of this query."""
        return FeedbackGiven(
            query_id=query_id,
            kind=self.kind,
            target=self.target,
            value=self.value,
            text=self.text,
            rater=self.rater,
            name=self.name,
        )


class QueryNamed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer or a span belongs to a query. `ratchet.query.named.v1`.

    Doors say so of every `answer.given` by themselves. Of several that name one reference the smallest
    (received time, content hash) counts.
    """

    reference: Reference
    query_id: QueryId


def answer_reference(answer_id: str) -> str:
    """The reference of an answer."""
    return f"answer:{answer_id}"


def span_reference(span_id: str) -> str:
    """The reference of an OpenTelemetry span, by its id in hex."""
    return f"span:{span_id}"
