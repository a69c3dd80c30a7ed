"""What the types cannot say: which value goes with which kind of feedback, which target needs which name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct

from schemas.errors import Reason, Rejectable
from schemas.interactions import Feedback, FeedbackGiven, QueryAsked, RetrievalServed, Target
from schemas.waiting import FeedbackReferred

#: Kind of feedback → (what `value` must be, test of it); kinds that are not here need no value.
_VALUES: Final[dict[str, tuple[str, Callable[[float], bool]]]] = {
    "thumb": ("1 (up) or -1 (down)", lambda v: v in (1, -1)),
    "stars": ("a number from 1 to 5", lambda v: 1 <= v <= 5),
    "label": ("1 (relevant) or 0", lambda v: v in (0, 1)),
    "dwell": ("seconds ≥ 0", lambda v: v >= 0),
    "score": ("a finite number", math.isfinite),
}
_TEXTS: Final = frozenset({"comment", "correction", "follow_up"})

#: Kind of target → the fields of `target` of which it needs one.
_TARGETS: Final[dict[str, tuple[str, ...]]] = {
    "query": (),
    "retrieval": ("retrieval_id",),
    "answer": ("answer_id",),
    "document": ("document_id", "rank"),
    "span": ("span_id",),
}


def _missing(field: str, message: str) -> Rejectable:
    return Rejectable(Reason.MISSING_FIELD, message, field=field)


def _invalid(field: str, message: str) -> Rejectable:
    return Rejectable(Reason.INVALID_VALUE, message, field=field)


def _check_target(target: Target) -> None:
    needed = _TARGETS[target.kind]
    if needed and all(getattr(target, name) is None for name in needed):
        names = " or ".join(f"target.{name}" for name in needed)
        raise _missing(
            f"data.target.{needed[0]}",
            f"expected {names} with target.kind {target.kind!r}, got neither; say what the feedback is about",
        )
    if target.document_id is not None and target.kind not in ("document", "span"):
        raise _invalid(
            "data.target.kind",
            f"target names a document, but target.kind is {target.kind!r}; set it to 'document'",
        )


def _check_feedback(payload: Feedback) -> None:
    _check_target(payload.target)
    if payload.kind == "click" and payload.target.kind not in ("document", "span"):
        raise _invalid(
            "data.target.kind",
            "a click is on something shown: expected target.kind 'document' with document_id or rank "
            f"(or 'span'), got {payload.target.kind!r}",
        )
    wanted = _VALUES.get(payload.kind)
    if wanted is not None:
        what, holds = wanted
        if payload.value is None:
            raise _missing("data.value", f"feedback of kind {payload.kind!r} needs `value`: {what}")
        if not holds(payload.value):
            raise _invalid("data.value", f"expected {what} for kind {payload.kind!r}, got {payload.value:g}")
    if payload.kind in _TEXTS and not (payload.text or "").strip():
        raise _missing("data.text", f"feedback of kind {payload.kind!r} needs a `text` that is not blank")


def _check_query(payload: QueryAsked) -> None:
    experiments = [exposure.experiment for exposure in payload.exposures]
    if len(set(experiments)) != len(experiments):
        raise _invalid(
            "data.exposures", "an experiment is named twice; a query is exposed to one arm of each experiment"
        )


def _check_retrieval(payload: RetrievalServed) -> None:
    ranks = [hit.rank for hit in payload.hits]
    if len(set(ranks)) != len(ranks):
        raise _invalid("data.hits", "a rank occurs twice; number the hits of a list 1, 2, 3, …")


_RULES: Final[dict[type[Struct], Callable[[Any], None]]] = {
    QueryAsked: _check_query,
    RetrievalServed: _check_retrieval,
    FeedbackGiven: _check_feedback,
    FeedbackReferred: _check_feedback,
}


def rule_of(payload: type[Struct]) -> Callable[[Any], None] | None:
    """The check of this payload type, if any; it raises Rejectable with the field and what was expected."""
    return _RULES.get(payload)
