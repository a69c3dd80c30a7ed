"""The moment up to which everything is stored follows the worker, not the clock."""

from __future__ import annotations

import datetime as dt

from infra.kafka.log import PartitionProgress, Progress
from infra.kafka.stored import StoredUntil
from schemas.topics import INTERACTIONS

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Worker:
    """A clock and a consumer group over two partitions."""

    def __init__(self) -> None:
        self.now = START
        self.committed = [0, 0]
        self.ends = [0, 0]

    async def read(self) -> Progress:
        pairs = zip(self.committed, self.ends, strict=True)
        return {INTERACTIONS: {n: PartitionProgress(done, end) for n, (done, end) in enumerate(pairs)}}

    def at(self, seconds: float) -> None:
        self.now = START + dt.timedelta(seconds=seconds)


async def test_it_stands_still_while_the_worker_does() -> None:
    worker = Worker()
    until = StoredUntil(worker.read, lambda: worker.now)
    worker.at(10)
    assert await until() == START + dt.timedelta(seconds=9)  # an empty log is stored whole
    worker.ends = [100, 50]
    worker.at(20)
    assert await until() == START + dt.timedelta(seconds=9)
    worker.committed, worker.ends = [100, 49], [200, 90]
    worker.at(300)
    assert await until() == START + dt.timedelta(seconds=9)
    worker.committed = [130, 50]
    worker.at(301)
    # the mark of 20 s is passed; what came since is not
    assert await until() == START + dt.timedelta(seconds=19)


async def test_nothing_is_known_of_a_log_that_nobody_has_read() -> None:
    worker = Worker()
    worker.ends = [1, 0]
    until = StoredUntil(worker.read, lambda: worker.now)
    assert await until() is None
    worker.committed = [1, 0]
    assert await until() == START - dt.timedelta(seconds=1)
