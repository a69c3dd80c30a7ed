"""What could not be accepted, folded or stored, kept whole. Topic `rejected`."""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta, Struct


class EventRejected(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One refused input, with its original bytes. `ratchet.event.rejected.v1`."""

    entry_id: Annotated[str, Meta(description="Hash of tenant and bytes: repeats share an entry.")]
    reason: Annotated[str, Meta(description="A reason code of `schemas.errors.Reason`.")]
    message: Annotated[str, Meta(description="What was expected, what came, what to do.")]
    field: Annotated[str, Meta(description="Dotted path of the offending field; '' if it is the whole.")] = ""
    original: Annotated[
        bytes, Meta(description="The original bytes (base64 in JSON), at most 64 KB kept.")
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


def rejection_entry_id(tenant: str, original: bytes) -> str:
    """The id of a rejected entry: SHA-256 (hex) of tenant and original bytes."""
    return hashlib.sha256(tenant.encode() + b"\x1f" + original).hexdigest()
