"""Every event type: its name on the wire, its payload, its topic. The one list that all rooms read."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from schemas import documents, interactions, lifecycle, rejections, topics, waiting


class EventType(Struct, frozen=True):
    """One event type. `subject` is the payload field that keys it within its tenant, or None."""

    name: str
    payload: type[Struct]
    topic: str
    subject: str | None

    @property
    def short(self) -> str:
        """`query.asked` for `ratchet.query.asked.v1`."""
        return self.name.removeprefix("ratchet.").rpartition(".")[0]


def _on(topic: str, subject: str | None, payloads: dict[str, type[Struct]]) -> tuple[EventType, ...]:
    return tuple(
        EventType(f"ratchet.{name}.v1", payload, topic, subject) for name, payload in payloads.items()
    )


EVENT_TYPES: Final[tuple[EventType, ...]] = (
    *_on(
        topics.INTERACTIONS,
        "query_id",
        {
            "query.asked": interactions.QueryAsked,
            "retrieval.served": interactions.RetrievalServed,
            "answer.given": interactions.AnswerGiven,
            "feedback.given": interactions.FeedbackGiven,
            "feedback.retracted": interactions.FeedbackRetracted,
        },
    ),
    *_on(
        topics.DOCUMENTS,
        "document_id",
        {"document.stored": documents.DocumentStored, "document.removed": documents.DocumentRemoved},
    ),
    *_on(
        topics.LIFECYCLE,
        None,
        {
            "tenant.configured": lifecycle.TenantConfigured,
            "drift.detected": lifecycle.DriftDetected,
            "training.requested": lifecycle.TrainingRequested,
            "dataset.frozen": lifecycle.DatasetFrozen,
            "trial.finished": lifecycle.TrialFinished,
            "training.abandoned": lifecycle.TrainingAbandoned,
            "version.proposed": lifecycle.VersionProposed,
            "version.judged": lifecycle.VersionJudged,
            "version.ready": lifecycle.VersionReady,
            "rollout.started": lifecycle.RolloutStarted,
            "rollout.advanced": lifecycle.RolloutAdvanced,
            "version.promoted": lifecycle.VersionPromoted,
            "version.rejected": lifecycle.VersionRejected,
            "version.rolled_back": lifecycle.VersionRolledBack,
            "experiment.defined": lifecycle.ExperimentDefined,
            "experiment.started": lifecycle.ExperimentStarted,
            "experiment.stopped": lifecycle.ExperimentStopped,
            "experiment.measured": lifecycle.ExperimentMeasured,
            "metric.defined": lifecycle.MetricDefined,
            "key.issued": lifecycle.KeyIssued,
            "key.revoked": lifecycle.KeyRevoked,
            "rejection.replayed": lifecycle.RejectionReplayed,
            "rejection.discarded": lifecycle.RejectionDiscarded,
            "topic.closed": lifecycle.TopicClosed,
            "topic.opened": lifecycle.TopicOpened,
            "alert.raised": lifecycle.AlertRaised,
            "alert.cleared": lifecycle.AlertCleared,
        },
    ),
    *_on(topics.REJECTED, "entry_id", {"event.rejected": rejections.EventRejected}),
    *_on(
        topics.WAITING,
        "reference",
        {"feedback.referred": waiting.FeedbackReferred, "query.named": waiting.QueryNamed},
    ),
)

BY_NAME: Final[dict[str, EventType]] = {event_type.name: event_type for event_type in EVENT_TYPES}
BY_PAYLOAD: Final[dict[type[Struct], EventType]] = {
    event_type.payload: event_type for event_type in EVENT_TYPES
}
#: Types that an application may send; the rest is the platform's own.
APPLICATION_TYPES: Final = tuple(
    t for t in EVENT_TYPES if t.topic in (topics.INTERACTIONS, topics.DOCUMENTS, topics.WAITING)
)


def json_schema(event_type: EventType) -> dict[str, object]:
    """JSON Schema (2020-12) of the payload, with units, meanings and `x-personal` marks."""
    schema = msgspec.json.schema(event_type.payload)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": event_type.name, **schema}
