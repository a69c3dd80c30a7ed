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

    INVALID_JSON = "invalid_json"  #: the bytes are not JSON
    INVALID_ENVELOPE = "invalid_envelope"  #: a CloudEvents attribute is missing or has the wrong form
    UNKNOWN_TYPE = "unknown_type"  #: `type` names no event of ours, or one that this door does not take
    MISSING_FIELD = "missing_field"  #: a required field of `data` is not there
    UNKNOWN_FIELD = "unknown_field"  #: `data` holds a field that this type does not have
    INVALID_VALUE = "invalid_value"  #: a field has the wrong type, or a value outside its range
    TIME_OUT_OF_RANGE = "time_out_of_range"  #: a time outside 1970–2105
    TOO_LARGE = "too_large"  #: the event or one of its strings is over the limit
    UNDECODABLE = "undecodable"  #: a record on our own topic that no decoder reads
    FOLD_FAILED = "fold_failed"  #: the fold raised on this query's records
    STORAGE_REFUSED = "storage_refused"  #: the store refused this row for good


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
