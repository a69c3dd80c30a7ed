"""The envelope of every record on our topics: CloudEvents 1.0, structured JSON."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct

from schemas.ids import EventRef, Identity

Instant = Annotated[dt.datetime, Meta(tz=True)]

#: A client clock may be this far ahead of, or behind, the received time before we stop believing it.
MAX_AHEAD: Final = dt.timedelta(minutes=5)
MAX_BEHIND: Final = dt.timedelta(days=7)


class Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of the log. Attribute names are CloudEvents' (lower case, at most 20 characters).

    `data` is the canonical JSON of the payload: the door that admitted the event wrote it so.
    """

    specversion: str
    id: str
    source: str
    type: str
    #: Who it belongs to; from the key, never from the body.
    tenant: str
    #: The query, document or rejected entry that this is about; None on `lifecycle`.
    subject: str | None = None
    #: Event time, the client's; None if the client gave none.
    time: Instant | None = None
    #: Received time, stamped once, at admission.
    recordedtime: Instant
    #: SHA-256 (hex) of canonical JSON of type, event time and data; stamped once, at admission.
    contenthash: str
    #: The way in: http, search, file, learner, …
    door: str = "http"
    #: The event time may be believed however old it is (file imports).
    timetrusted: bool = False
    #: The lifecycle event, or the command of a person, that caused this one.
    causationid: str | None = None
    #: Which attempt at this step for this cause (lifecycle only).
    attempt: int = 1
    data: msgspec.Raw

    @property
    def ref(self) -> EventRef:
        """Source and id."""
        return EventRef(self.source, self.id)

    @property
    def identity(self) -> Identity:
        """Tenant, subject, source and id: equal identities are one event."""
        return Identity(self.tenant, self.subject or "", self.source, self.id)

    @property
    def effective_time(self) -> dt.datetime:
        """Event time unless it is missing or out of bounds, then received time."""
        return self.recordedtime if self.time is None or self.time_doubted else self.time

    @property
    def time_doubted(self) -> bool:
        """The client's clock is > 5 min ahead or > 7 days behind, and nobody vouches for it."""
        if self.time is None or self.timetrusted:
            return False
        return not self.recordedtime - MAX_BEHIND <= self.time <= self.recordedtime + MAX_AHEAD
