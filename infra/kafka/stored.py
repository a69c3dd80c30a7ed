"""Up to when everything that was received is in the store: what a reader of the store may rely on."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Final

from infra.kafka.log import Progress
from schemas.topics import INTERACTIONS

#: Received times are stamped before an event is appended; an append takes milliseconds.
_APPENDING: Final = dt.timedelta(seconds=1)


class StoredUntil:
    """The moment up to which all interactions are stored; None until one is known.

    A mark is set at the present ends of the log, and is known once the stream worker has committed beyond
    them. So the moment follows the worker: it stands still while the worker does, whatever the clock says.
    """

    def __init__(self, read: Callable[[], Awaitable[Progress]], now: Callable[[], dt.datetime]) -> None:
        self._read = read
        self._now = now
        self._known: dt.datetime | None = None
        self._mark: tuple[dt.datetime, dict[int, int]] | None = None

    async def __call__(self) -> dt.datetime | None:
        """Ask the log once. Raises Retryable."""
        at = self._now() - _APPENDING
        partitions = (await self._read())[INTERACTIONS]
        if self._mark is None:
            self._mark = at, {number: one.end for number, one in partitions.items()}
        moment, ends = self._mark
        if all(partitions[number].committed >= end for number, end in ends.items()):
            self._known, self._mark = moment, None
        return self._known
