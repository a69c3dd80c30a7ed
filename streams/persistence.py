"""Trying again what may pass later, until it is time to give up."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from schemas.errors import Fatal, Retryable

log = logging.getLogger(__name__)
_T = TypeVar("_T")

_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0


async def persist(action: Callable[[], Awaitable[_T]], *, doing: str, retry_for_s: float) -> _T:
    """The result of `action`, called again after each Retryable, with growing pauses.

    Raises Fatal once it has failed for `retry_for_s`: offsets are then not committed, and the next process
    reads the batch again. Rejectable and Fatal pass through.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + retry_for_s
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return await action()
        except Retryable as error:
            if loop.time() + pause_s > give_up_at:
                raise Fatal(f"{doing} has failed for {retry_for_s} s: {error}") from error
            log.warning("will try again", extra={"doing": doing, "why": str(error), "pause_s": pause_s})
            await asyncio.sleep(pause_s)
            pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)
