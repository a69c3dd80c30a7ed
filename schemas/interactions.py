"""What happens around one query: asked, served, answered, rated. Topic `interactions`.

Times inside `data` do not exist: the event time is the CloudEvents `time`. New fields have defaults,
types never change, and a field's meaning never changes: a new meaning is a new field.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

#: Text that may say something about a person. Erasure and masking act on fields of this type.
Personal = Annotated[str, Meta(extra_json_schema={"x-personal": True})]
QueryId = Annotated[str, Meta(min_length=1, description="Names the query; chosen by the application.")]
Attribute = str | int | float | bool

FeedbackKind = Literal[
    "click",
    "dwell",
    "copy",
    "thumb",
    "stars",
    "score",
    "label",
    "comment",
    "correction",
    "follow_up",
    "abandonment",
]
TargetKind = Literal["query", "retrieval", "answer", "document", "span"]
Rater = Literal["human", "llm", "code"]


class Exposure(Struct, frozen=True, omit_defaults=True):
    """The arm of an experiment that this query's unit was shown."""

    experiment: Annotated[str, Meta(min_length=1)]
    arm: Annotated[str, Meta(min_length=1)]


class QueryAsked(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody asked something. `ratchet.query.asked.v1`."""

    query_id: QueryId
    text: Annotated[Personal, Meta(description="What was asked, as typed.")]
    user: Annotated[Personal | None, Meta(description="Opaque id of the person; no name is needed.")] = None
    session: Annotated[Personal | None, Meta(description="Opaque id of the session.")] = None
    device: Annotated[Personal | None, Meta(description="Opaque id of the device.")] = None
    attributes: Annotated[dict[str, Attribute], Meta(description="Anything to slice by.")] = {}
    exposures: Annotated[tuple[Exposure, ...], Meta(description="Arms shown to this query's unit.")] = ()
    inferred: Annotated[
        bool, Meta(description="Read off a part of the work; an event that says what was asked goes first.")
    ] = False

    @property
    def unit(self) -> str | None:
        """The one randomised string: user, else session, else device."""
        return self.user or self.session or self.device


class Hit(Struct, frozen=True, omit_defaults=True):
    """A document at a rank of one result list."""

    document_id: Annotated[str, Meta(min_length=1)]
    rank: Annotated[int, Meta(ge=1, description="1 is the top.")]
    text_hash: Annotated[str | None, Meta(description="SHA-256 (hex) of the text that was indexed.")] = None
    score: Annotated[
        float | None, Meta(description="The pipeline's own score; comparable within a version.")
    ] = None
    propensity: (
        Annotated[float, Meta(gt=0, le=1, description="Chance that this document stood at this rank.")] | None
    ) = None


class RetrievalServed(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A result list was made for a query. `ratchet.retrieval.served.v1`."""

    query_id: QueryId
    retrieval_id: Annotated[str, Meta(min_length=1)]
    pipeline_version: Annotated[str, Meta(description="The version that made the list; '' if unknown.")] = ""
    hits: tuple[Hit, ...] = ()
    shadow: Annotated[bool, Meta(description="Made, but shown to nobody.")] = False
    exploration: Annotated[bool, Meta(description="The list was changed on purpose to learn from it.")] = (
        False
    )
    latency_ms: Annotated[float, Meta(ge=0, description="Milliseconds.")] | None = None
    error: Annotated[str | None, Meta(description="Why no list could be made.")] = None


class Citation(Struct, frozen=True, omit_defaults=True):
    """A document that an answer leans on."""

    document_id: Annotated[str, Meta(min_length=1)]
    rank: Annotated[int, Meta(ge=1)] | None = None


class AnswerGiven(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A generated answer was shown. `ratchet.answer.given.v1`."""

    query_id: QueryId
    answer_id: Annotated[str, Meta(min_length=1)]
    text: Personal = ""
    generator: Annotated[str, Meta(description="Model or template that wrote it.")] = ""
    citations: tuple[Citation, ...] = ()
    input_tokens: Annotated[int, Meta(ge=0)] | None = None
    output_tokens: Annotated[int, Meta(ge=0)] | None = None
    cost_usd: Annotated[float, Meta(ge=0, description="US dollars.")] | None = None
    latency_ms: Annotated[float, Meta(ge=0, description="Milliseconds.")] | None = None
    cached: bool = False
    error: str | None = None


class Target(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a piece of feedback is about."""

    kind: TargetKind = "query"
    retrieval_id: str | None = None
    answer_id: str | None = None
    document_id: str | None = None
    rank: Annotated[int, Meta(ge=1)] | None = None
    span_id: str | None = None


class Feedback(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What somebody or something says of what was shown.

    `value` by kind: thumb 1 (up) or -1 (down); stars 1 to 5; score any finite number, larger is better;
    dwell seconds; label 1 (relevant) or 0. click, copy and abandonment need none; comment, correction
    and follow_up carry `text`.
    """

    kind: FeedbackKind
    target: Target = Target()
    value: float | None = None
    text: Annotated[
        Personal | None, Meta(description="Comment, corrected answer, or follow-up question.")
    ] = None
    rater: Rater = "human"
    name: Annotated[str, Meta(description="Name of the score, when an application has several.")] = ""
    attributes: Annotated[
        dict[str, Attribute], Meta(description="Anything to slice by; the fold does not read it.")
    ] = {}


class FeedbackGiven(Feedback, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody or something rated what was shown. `ratchet.feedback.given.v1`.

    `value` by kind: thumb 1 (up) or -1 (down); stars 1 to 5; score any finite number, larger is better;
    dwell seconds; label 1 (relevant) or 0. click, copy and abandonment need none; comment, correction
    and follow_up carry `text`.
    """

    query_id: QueryId


class FeedbackRetracted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Feedback is taken back; this may come before what it retracts. `ratchet.feedback.retracted.v1`."""

    query_id: QueryId
    feedback_source: Annotated[str, Meta(description="CloudEvents `source` of the feedback.")]
    feedback_id: Annotated[str, Meta(description="CloudEvents `id` of the feedback.")]
