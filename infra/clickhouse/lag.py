"""How far the worker has come, written where analysts see it: view `lag`."""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
from collections.abc import Callable

import msgspec
from clickhouse_connect.driver.client import Client

from infra.clickhouse.connection import LIVE, Databases, explain
from infra.kafka.log import GroupProgress, Progress
from schemas.errors import Retryable

log = logging.getLogger(__name__)


async def report_lag(
    progress: GroupProgress,
    client: Client,
    *,
    interval_s: float,
    now: Callable[[], dt.datetime],
    observe: Callable[[Progress], None] = lambda _: None,
    writes: Callable[[], bool] = lambda: True,
    databases: Databases = LIVE,
) -> None:
    """Write the progress every `interval_s`, for ever; cancel it to stop. `observe` gets what was read.

    `writes`: whether it is this worker's to write now; of several one is enough.

    A round that fails is left out: the age of the last row in `lag` shows it.
    """
    while True:
        try:
            read = await progress.read()
            observe(read)
            if writes():
                await asyncio.to_thread(write_lag, client, read, now(), databases)
        except Retryable as error:
            log.warning("lag not reported", extra={"why": str(error)})
        await asyncio.sleep(interval_s)


def write_lag(
    client: Client, progress: Progress, observed_at: dt.datetime, databases: Databases = LIVE
) -> None:
    """Store one look at the progress. Raises Retryable, Fatal."""
    rows = [
        {
            "topic": topic,
            "partition": partition,
            "committed": one.committed,
            "end_offset": one.end,
            "observed_at": observed_at.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
        }
        for topic, partitions in progress.items()
        for partition, one in partitions.items()
    ]
    if not rows:
        return
    try:
        # the client's `insert` would import pandas, which a worker must not carry
        client.raw_insert(
            f"{databases.store}.offsets",
            insert_block=msgspec.json.Encoder().encode_lines(rows),
            fmt="JSONEachRow",
        )
    except Exception as error:
        raise explain(error, "writing the lag") from error
