"""Errors by reaction: what the caller must do decides the class.

RatchetError
├── Retryable      the same call may pass later; wait `retry_after_s`
├── Rejectable     this input can never pass as it is; send it to `rejected` with `reason` and `field`
└── Fatal          this process must stop (its supervisor starts it again, or an operator acts)
"""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why an event was rejected: a closed list that scripts may match on."""

    meaning: str
    """What it says, in one clause."""
    remedy: str
    """What a person does next."""

    def __new__(cls, value: str, meaning: str = "", remedy: str = "") -> Reason:
        """A reason with its words; a test sees to it that none is without."""
        reason = str.__new__(cls, value)
        reason._value_ = value
        reason.meaning = meaning
        reason.remedy = remedy
        return reason

    INVALID_JSON = (
        "invalid_json",
        "the bytes are not JSON",
        "mend the encoder of the sender: one JSON value in UTF-8, no NaN",
    )
    INVALID_ENVELOPE = (
        "invalid_envelope",
        "a CloudEvents attribute is missing or has the wrong form",
        "set the attribute that `field` names; `id` and `source` name the event for ever",
    )
    UNKNOWN_TYPE = (
        "unknown_type",
        "`type` names no event of ours, or one that this door does not take",
        "compare `type` with `GET /v1/schemas`, version included",
    )
    MISSING_FIELD = (
        "missing_field",
        "a required field of `data` is not there",
        "add the field that `field` names; the type's schema shows an example",
    )
    UNKNOWN_FIELD = (
        "unknown_field",
        "`data` holds a field that this type does not have",
        "correct the spelling, or move what is your own to `attributes`",
    )
    INVALID_VALUE = (
        "invalid_value",
        "a field has the wrong type, or a value outside its range",
        "send what the message says it expected",
    )
    TIME_OUT_OF_RANGE = (
        "time_out_of_range",
        "a time outside 1970–2105",
        "mend the clock or the unit (seconds, not milliseconds), or leave `time` out",
    )
    TOO_LARGE = (
        "too_large",
        "the event, one of its strings, or its nesting is over the limit",
        "send less text, or raise the limit that the message names in `[ingest]`",
    )
    UNDECODABLE = (
        "undecodable",
        "a record on our own topic that no decoder reads",
        "find who else writes to the topic; only Ratchet may",
    )
    FOLD_FAILED = (
        "fold_failed",
        "the fold raised on this query's records",
        "report it with the entry: it is a defect; after an upgrade, replay the entry",
    )
    STORAGE_REFUSED = (
        "storage_refused",
        "the store refused this row for good",
        "see the message of the store; after mending, replay the entry",
    )


class RatchetError(Exception):
    """Root of every error that this project raises on purpose."""


class Retryable(RatchetError):
    """The same call may pass later.

    `retry_after_s`: seconds after which trying again makes sense.
    """

    def __init__(self, message: str, *, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Rejectable(RatchetError):
    """This input can never pass as it is.

    `reason`: a `Reason`; `field`: a dotted path such as `data.hits.0.rank`, or '' for the whole input.
    """

    def __init__(self, reason: Reason, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.reason = reason
        self.field = field
        self.message = message


class Fatal(RatchetError):
    """This process must stop: going on would lose or falsify something."""
