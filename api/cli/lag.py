"""How far the stream worker is behind: end offsets minus committed offsets, asked of the broker."""

from __future__ import annotations

import asyncio

from api.settings import Settings


def read_lag(settings: Settings) -> int | None:
    """Records that are in the log and not yet committed by the worker; None if the broker does not answer."""
    from infra.kafka.log import GroupProgress
    from schemas.errors import Retryable

    async def read() -> int:
        async with GroupProgress(settings.kafka.bootstrap, settings.streams.group) as group:
            progress = await group.read()
        return sum(max(0, one.end - one.committed) for parts in progress.values() for one in parts.values())

    try:
        return asyncio.run(asyncio.wait_for(read(), 5.0))
    except (TimeoutError, Retryable):
        return None
