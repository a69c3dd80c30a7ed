"""Limits of the doors."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class IngestSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request and an event may weigh, and how long a door waits for the log.

    Nesting needs no limit of its own: the types are closed, and the JSON parser bounds the rest.
    """

    #: A larger body is refused whole (413), before it is read to its end.
    max_body_bytes: Annotated[int, Meta(ge=1024)] = 10 * 1024 * 1024
    #: More events in one request are refused whole (413).
    max_events: Annotated[int, Meta(ge=1)] = 10_000
    #: A larger event is rejected (`too_large`). A record must stay below the broker's `message.max.bytes`
    #: (1 MiB unless configured), and canonical JSON may be longer than what came.
    max_event_bytes: Annotated[int, Meta(ge=256, le=900_000)] = 512 * 1024
    #: A longer text in `data` is rejected (`too_large`); in bytes of UTF-8.
    max_string_bytes: Annotated[int, Meta(ge=64)] = 256 * 1024
    #: Bytes of a rejected event that are kept; of more, only length and hash remain.
    max_kept_bytes: Annotated[int, Meta(ge=1024, le=256 * 1024)] = 64 * 1024
    #: A door waits this long for the log; what is unconfirmed then is answered with 503.
    deadline_s: Annotated[float, Meta(gt=0)] = 10.0
    #: Bytes handed to the log and not yet confirmed; beyond, requests are answered with 503 at once.
    max_in_flight_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
