"""Limits of the doors."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class IngestSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a request and an event may weigh, and how long a door waits for the log.

    How deep JSON may nest is fixed (64): the types are closed, and what they take is at most 6 deep.
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
    #: A rejected event of so many bytes is kept whole; of a larger one the first 64 KiB, length and hash.
    max_kept_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024)] = 1024 * 1024
    #: A door waits this long for the log; what is unconfirmed then is answered with 503.
    deadline_s: Annotated[float, Meta(gt=0)] = 10.0
    #: Bytes handed to the log and not yet confirmed; beyond, requests are answered with 503 at once.
    max_in_flight_bytes: Annotated[int, Meta(ge=1024)] = 64 * 1024 * 1024
    #: Requests a second with one key, in one process; beyond, 429. 0: no limit. A key may have its own.
    max_requests_per_s: Annotated[float, Meta(ge=0)] = 0.0
    #: Events a second with one key, in one process; beyond, 429. 0: no limit. A key may have its own.
    max_events_per_s: Annotated[float, Meta(ge=0)] = 0.0
