"""Feedback that knows no query, and what names its query. Topic `waiting`, keyed by the reference.

A *reference* is `answer:<answer_id>` or `span:<span_id>`. The records of a reference are a set, as those of a
query are: once it holds a `query.named`, each `feedback.referred` in it is passed on to `interactions` as a
`feedback.given` of that query, under its own source, id and received time. So it is passed on once, however
often that is done, and whichever of the two came first.

Of several names the one that stands first in the log counts, so that feedback never goes to two queries: the
records of a reference are all in one partition, whose number of partitions never changes.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct
from msgspec.structs import replace

from schemas.interactions import Feedback, FeedbackGiven, QueryId, Target

REFERRED: Final = "ratchet.feedback.referred.v1"
NAMED: Final = "ratchet.query.named.v1"

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

    def given(self, named: QueryNamed) -> FeedbackGiven:
        """The same feedback, of the query that its reference belongs to, about what the name says it is."""
        return FeedbackGiven(
            query_id=named.query_id,
            kind=self.kind,
            target=named.place(self.target),
            value=self.value,
            text=self.text,
            rater=self.rater,
            name=self.name,
            attributes=self.attributes,
        )


class QueryNamed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer or a span belongs to a query. `ratchet.query.named.v1`.

    Doors say so of every `answer.given` by themselves. Of several that name one reference the first in the
    log counts.
    """

    reference: Reference
    query_id: QueryId
    answer_id: Annotated[
        str | None, Meta(description="The answer of the query that the reference is, if it is one.")
    ] = None
    retrieval_id: Annotated[
        str | None, Meta(description="The retrieval of the query that the reference is, if it is one.")
    ] = None

    def place(self, target: Target) -> Target:
        """The target of feedback on the reference, in the words of its query.

        A span that is an answer or a retrieval becomes that; a document of a span, one of that retrieval.
        Which span it was is kept.
        """
        names_document = target.document_id is not None or target.rank is not None
        if self.answer_id is not None and target.kind in ("answer", "span") and not names_document:
            return replace(target, kind="answer", answer_id=self.answer_id)
        if self.retrieval_id is not None and target.kind in ("retrieval", "document", "span"):
            kind = "document" if names_document else "retrieval"
            return replace(target, kind=kind, retrieval_id=target.retrieval_id or self.retrieval_id)
        return target


def answer_reference(answer_id: str) -> str:
    """The reference of an answer."""
    return f"answer:{answer_id}"


def span_reference(span_id: str) -> str:
    """The reference of an OpenTelemetry span, by its id in hex."""
    return f"span:{span_id}"
