"""Feedback on a span: OpenInference's annotations and evaluations, and GenAI's evaluation events."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from typing import Any, Final

from msgspec import Struct

from ingest.formats.judgements import judge_result
from ingest.formats.otlp.parts import finite, numbered, structured
from ingest.formats.otlp.spans import Attributes, Span, moment
from ingest.formats.pieces import flatten, rater_of
from schemas.interactions import Attribute, FeedbackGiven, Rater, Target
from schemas.waiting import FeedbackReferred, answer_reference

#: Prefix of numbered attributes → prefix of their names. A session is no query: what is said of it is said of
#: the query whose span carries it.
_NUMBERED: Final = {
    f"{scope}{what}s": what for what in ("annotation", "evaluation") for scope in ("", "trace.", "session.")
}
EVALUATION_EVENT: Final = "gen_ai.evaluation.result"
RESPONSE_ID: Final = "gen_ai.response.id"


class Said(Struct, frozen=True):
    """A piece of feedback. `role` tells those of one span apart."""

    role: str
    time: dt.datetime | None
    payload: FeedbackGiven | FeedbackReferred


def feedback_of(span: Span, target: Target) -> Iterator[Said]:
    """All feedback that a span carries; `target` is the span itself. Raises Rejectable."""
    ended = moment(span.end_ns or span.start_ns, "endTimeUnixNano")
    for prefix, what in _NUMBERED.items():
        for place, one in numbered(span.attributes, prefix):
            about = target if prefix == f"{what}s" else Target()
            rater = rater_of(_word(one.get(f"{what}.annotator_kind")) or ("llm" if what[0] == "e" else None))
            said = _judged(one, f"{what}.", about, rater)
            if said is not None:
                yield Said(f"{prefix}.{place}", ended, FeedbackGiven(query_id=span.trace_id, **said))
    for place, event in enumerate(span.events):
        if event.name == EVALUATION_EVENT:
            time = moment(event.time_ns, "events.timeUnixNano") or ended
            payload = _evaluation(span, event.attributes, target)
            if payload is not None:
                yield Said(f"events.{place}", time, payload)


def _evaluation(
    span: Span, attributes: Attributes, target: Target
) -> FeedbackGiven | FeedbackReferred | None:
    one = {
        name.removeprefix("gen_ai.evaluation.").removeprefix("score.").replace("value", "score"): value
        for name, value in attributes.items()
        if name.startswith("gen_ai.evaluation.")
    }
    response_id = attributes.get(RESPONSE_ID)
    if not isinstance(response_id, str) or not response_id or response_id == span.attributes.get(RESPONSE_ID):
        said = _judged(one, "", target, "llm")
        return None if said is None else FeedbackGiven(query_id=span.trace_id, **said)
    # the answer of another span, perhaps of another trace: what names that answer knows its query
    said = _judged(one, "", Target(kind="answer", answer_id=response_id), "llm")
    return None if said is None else FeedbackReferred(reference=answer_reference(response_id), **said)


def _judged(one: Attributes, prefix: str, target: Target, rater: Rater) -> dict[str, Any] | None:
    """Fields of feedback; None if it has neither label, nor score, nor explanation."""
    name, label, explanation = (_word(one.get(f"{prefix}{n}")) for n in ("name", "label", "explanation"))
    judgement = judge_result(name, label or None, finite(one.get(f"{prefix}score")))
    text = explanation or (label if judgement is None else "")
    if judgement is None and not text.strip():
        return None
    identifier = _word(one.get(f"{prefix}identifier"))
    named: dict[str, Attribute] = {n: v for n, v in (("label", label), ("identifier", identifier)) if v}
    return {
        "kind": "comment" if judgement is None else judgement.kind,
        "value": None if judgement is None else judgement.value,
        "text": text or None,
        "target": target,
        "rater": rater,
        "name": name,
        "attributes": {**named, **flatten("metadata", structured(one.get(f"{prefix}metadata")))},
    }


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
