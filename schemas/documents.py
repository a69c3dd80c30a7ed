"""The corpus as events. Topic `documents`; the largest (received time, content hash) is current."""

from __future__ import annotations

import hashlib
from typing import Annotated

from msgspec import Meta, Struct

from schemas.interactions import Attribute, Personal


class DocumentStored(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document is new or has a new text. `ratchet.document.stored.v1`."""

    document_id: Annotated[str, Meta(min_length=1)]
    text: Annotated[Personal, Meta(description="What is searched.")]
    title: Personal = ""
    fields: Annotated[dict[str, Attribute], Meta(description="Anything to show or to filter by.")] = {}


class DocumentRemoved(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A document is gone. `ratchet.document.removed.v1`."""

    document_id: Annotated[str, Meta(min_length=1)]


def text_hash(title: str, text: str) -> str:
    """SHA-256 (hex) of a document's searchable text: what a hit names to say which text was shown."""
    return hashlib.sha256(f"{title}\x1f{text}".encode()).hexdigest()
