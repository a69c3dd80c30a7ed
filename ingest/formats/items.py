"""What a format makes of a body: CloudEvents in JSON, and pieces that are none."""

from __future__ import annotations

from msgspec import Raw, Struct

from schemas.errors import Rejectable


class Undecoded(Struct, frozen=True):
    """A piece of a body from which no CloudEvent could be made.

    `original` is what `rejected` keeps: bytes that the same format decodes again once they are mended.
    """

    original: bytes
    why: Rejectable


#: One event of a body: a CloudEvent in JSON, which admission has yet to look at, or what is none.
Item = bytes | Raw | Undecoded
