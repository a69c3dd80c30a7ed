"""Time spent in each stage of a batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Stages:
    """Seconds a stage, added up over its parts. `clock` counts seconds and never goes back."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Count the time until the block ends, also if it raises."""
        start = self._clock()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + self._clock() - start
