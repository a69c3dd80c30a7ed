"""The application's own record: what it sent, and what it was told of it."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec
from msgspec import Struct

State = Literal["sent", "acknowledged", "refused"]


class Counts(Struct, frozen=True):
    """Distinct event ids, but for `sendings`."""

    sent: int
    acknowledged: int
    refused: int
    #: Sent, and nothing is known of it.
    unconfirmed: int
    #: Sendings, repeated ones too.
    sendings: int


class Record:
    """Ids by what became of them, kept in memory and, line by line, in a file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._sent: set[str] = set()
        self._acknowledged: set[str] = set()
        self._refused: set[str] = set()
        self._sendings = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def note(self, state: State, event_id: str) -> None:
        """Write one fact down; `sent` before it is sent."""
        self._file.write(msgspec.json.encode({"state": state, "id": event_id}) + b"\n")
        match state:
            case "sent":
                self._sent.add(event_id)
                self._sendings += 1
            case "acknowledged":
                self._acknowledged.add(event_id)
            case "refused":
                self._refused.add(event_id)

    @property
    def counts(self) -> Counts:
        """How many there are now."""
        known = self._acknowledged | self._refused
        return Counts(
            sent=len(self._sent),
            acknowledged=len(self._acknowledged),
            refused=len(self._refused),
            unconfirmed=len(self._sent - known),
            sendings=self._sendings,
        )
