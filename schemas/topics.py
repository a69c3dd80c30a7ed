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

#: The tenant of what concerns all tenants: alerts, and doors that are closed. No key is ever its.
PLATFORM: Final = "platform"

TENANT_PATTERN: Final = re.compile(r"\A[a-z0-9-]{1,40}\Z")


class Topic(msgspec.Struct, frozen=True):
    """A log topic. Nothing in it is ever deleted by time or size (`retention.ms=-1`)."""

    name: str
    partitions: int  #: when it is made; one of GROWABLE may have more by now, and the broker knows how many
    key: str  #: what the Kafka key is made of
    #: `max.message.bytes`; Kafka's default, unless the records of the topic may be larger.
    max_record_bytes: int = 1024 * 1024


TOPICS: Final = (
    Topic(INTERACTIONS, 24, "tenant/query_id"),
    Topic(DOCUMENTS, 6, "tenant/document_id"),
    # A tenant's lifecycle is a sequence: its partition count never changes, so a tenant never moves.
    Topic(LIFECYCLE, 4, "tenant"),
    # An original of 1 MiB, in base64, with its headers and the message.
    Topic(REJECTED, 6, "tenant/entry_id", max_record_bytes=2 * 1024 * 1024),
    Topic(WAITING, 6, "tenant/reference"),
)

#: Topics whose partition count may be raised: nothing in them is folded in the order of the log.
GROWABLE: Final = (INTERACTIONS, DOCUMENTS, REJECTED)


def record_key(tenant: str, subject: str | None) -> bytes:
    """The Kafka key of a record: the tenant leads every key (L10)."""
    return f"{tenant}/{subject}".encode() if subject is not None else tenant.encode()
