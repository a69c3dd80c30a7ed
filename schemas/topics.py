"""The topics of the log, their keys and their partitions."""

from __future__ import annotations

import re
from typing import Final

import msgspec

INTERACTIONS: Final = "interactions"
DOCUMENTS: Final = "documents"
LIFECYCLE: Final = "lifecycle"
REJECTED: Final = "rejected"
WAITING: Final = "waiting"

TENANT_PATTERN: Final = re.compile(r"\A[a-z0-9-]{1,40}\Z")


class Topic(msgspec.Struct, frozen=True):
    """A log topic. Nothing in it is ever deleted by time or size (`retention.ms=-1`)."""

    name: str
    partitions: int
    key: str  #: what the Kafka key is made of


TOPICS: Final = (
    Topic(INTERACTIONS, 24, "tenant/query_id"),
    Topic(DOCUMENTS, 6, "tenant/document_id"),
    # A tenant's lifecycle is a sequence: its partition count never changes, so a tenant never moves.
    Topic(LIFECYCLE, 4, "tenant"),
    Topic(REJECTED, 6, "tenant/entry_id"),
    Topic(WAITING, 6, "tenant/reference"),
)


def record_key(tenant: str, subject: str | None) -> bytes:
    """The Kafka key of a record: the tenant leads every key (L10)."""
    return f"{tenant}/{subject}".encode() if subject is not None else tenant.encode()
