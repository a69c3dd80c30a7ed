"""What could not be accepted, folded or stored, kept whole. Topic `rejected`."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.envelope import Instant

#: `reason` of an entry that is derived: a record whose identity is that of an earlier event.
CONFLICT: Final = "conflict"


class EventRejected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One refused input, with its original bytes. `ratchet.event.rejected.v1`."""

    entry_id: Annotated[str, Meta(description="Hash of tenant and bytes: repeats share an entry.")]
    reason: Annotated[str, Meta(description="A reason code of `schemas.errors.Reason`.")]
    message: Annotated[str, Meta(description="What was expected, what came, what to do.")]
    field: Annotated[str, Meta(description="Dotted path of the offending field; '' if it is the whole.")] = ""
    original: Annotated[
        bytes, Meta(description="The original bytes (base64 in JSON), whole up to 1 MiB, else its beginning.")
    ] = b""
    original_length: Annotated[int, Meta(ge=0, description="Bytes before any cut.")] = 0
    headers: dict[str, str] = {}
    event_source: Annotated[
        str, Meta(description="CloudEvents source of the refused event, where readable.")
    ] = ""
    event_id: Annotated[str, Meta(description="CloudEvents id of the refused event, where readable.")] = ""
    event_type: str = ""
    replayable: Annotated[bool, Meta(description="The original is kept whole.")] = True
    code_version: str = ""


class RejectedEntry(Struct, frozen=True, kw_only=True):
    """One entry as the view `rejected` shows it: it still stands."""

    entry_id: str
    reason: Annotated[str, Meta(description="A reason code of `schemas.errors.Reason`, or `conflict`.")]
    message: str = ""
    field: str = ""
    event_source: str = ""
    event_id: str = ""
    event_type: str = ""
    subject: str = ""
    door: Annotated[str, Meta(description="Where it came in; `streams` if the worker refused it.")] = ""
    received_time: Instant
    last_received_time: Instant
    times: Annotated[int, Meta(ge=1, description="How often the same bytes came.")] = 1
    original_length: int = 0
    headers: dict[str, str] = {}
    replayable: Annotated[bool, Meta(description="The original is kept whole.")] = True
    code_version: str = ""


class EntryFilter(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which entries: all that is set must hold. `since` and `until` bound when an entry last came."""

    reason: str = ""
    source: str = ""
    door: str = ""
    type: str = ""
    since: Instant | None = None
    until: Instant | None = None

    @property
    def empty(self) -> bool:
        """Every entry passes."""
        return self == EntryFilter()


class EntryAnswer(Struct, frozen=True, kw_only=True):
    """What a person decided on an entry: it was replayed as an event, or discarded for a reason."""

    entry_id: str
    replayed: bool
    event_source: str = ""
    event_id: str = ""
    subject: str = ""
    reason: str = ""
    source: Annotated[str, Meta(description="Who.")] = ""
    received_time: Instant


class EntryCount(Struct, frozen=True):
    """Entries that share a value, and how often they came."""

    value: str
    entries: int
    times: int


def rejection_entry_id(tenant: str, original: bytes) -> str:
    """The id of a rejected entry: SHA-256 (hex) of tenant and original bytes."""
    return hashlib.sha256(tenant.encode() + b"\x1f" + original).hexdigest()
