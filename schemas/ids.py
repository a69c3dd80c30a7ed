"""Ids: time-ordered UUIDv7 where nobody gave one, derived ids where a step must not happen twice."""

from __future__ import annotations

import hashlib
import uuid
from typing import Final

import msgspec

#: Separates the parts of a derived id; it cannot occur in a tenant, a type or an id that we mint.
_UNIT_SEPARATOR: Final = "\x1f"


class EventRef(msgspec.Struct, frozen=True, array_like=True, order=True):
    """What names an event within its tenant and query: CloudEvents `source` and `id`."""

    source: str
    id: str


class Identity(msgspec.Struct, frozen=True, array_like=True, order=True):
    """An event's identity. The *canonical order* of events is the order of this struct."""

    tenant: str
    query_id: str
    source: str
    id: str


def uuid7(unix_ms: int, random_bytes: bytes) -> str:
    """A UUIDv7 (RFC 9562 §5.7) from a Unix time in milliseconds and ten random bytes.

    Ids of later milliseconds sort after earlier ones as strings.
    """
    if len(random_bytes) != 10:
        raise ValueError(f"uuid7 needs 10 random bytes, got {len(random_bytes)}")
    value = (unix_ms & (1 << 48) - 1) << 80 | int.from_bytes(random_bytes)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def derive_id(*parts: str) -> str:
    """An id that the same parts always give: SHA-256 of the parts, as a UUIDv8 (RFC 9562 §5.8)."""
    digest = hashlib.sha256(_UNIT_SEPARATOR.join(parts).encode()).digest()
    value = int.from_bytes(digest[:16])
    value = value & ~(0xF << 76) | 0x8 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


def step_id(cause: str, event_type: str, attempt: int = 1) -> str:
    """The id of the `attempt`th step of this type for this cause, so that a repeated step is seen as one."""
    return derive_id("step", cause, event_type, str(attempt))
