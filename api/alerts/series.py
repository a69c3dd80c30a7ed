"""What was scraped, as far back as expressions look: samples by series, and where a series ended."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

#: A series counts as present for this long after its last sample, unless a scrape has missed it: Prometheus'.
LOOKBACK_S: Final = 300.0

Labels = frozenset[tuple[str, str]]


class Sample(NamedTuple):
    """A value at a time (seconds since 1970); None where a scrape no longer had the series."""

    time_s: float
    value: float | None


class Scraped(NamedTuple):
    """One line of an exposition."""

    name: str
    labels: Mapping[str, str]
    value: float


class SeriesWindow:
    """Samples of the last `keep_s` seconds, of the series named in `names`. Times only grow.

    A series belongs to the target that showed it (`job`, `instance`): one that the next scrape of the target
    does not show, or all if that fails, has ended and has no present value from then on.
    """

    def __init__(self, names: Collection[str], keep_s: float) -> None:
        self._keep_s: Final = max(keep_s, LOOKBACK_S)
        self._series: dict[str, dict[Labels, deque[Sample]]] = {name: {} for name in names}
        #: (job, instance) → the series that its last scrape had
        self._shown: dict[tuple[str, str], set[tuple[str, Labels]]] = {}

    def add_scrape(self, job: str, instance: str, time_s: float, lines: Iterable[Scraped] | None) -> None:
        """What a target showed; None if it could not be scraped. `up` says which, as in Prometheus."""
        own = {"job": job, "instance": instance}
        shown = {("up", frozenset(own.items()))}
        self.add(Scraped("up", own, float(lines is not None)), time_s)
        for line in lines or ():
            if line.name in self._series:
                labelled = Scraped(line.name, {**line.labels, **own}, line.value)
                self.add(labelled, time_s)
                shown.add((line.name, frozenset(labelled.labels.items())))
        for name, labels in self._shown.get((job, instance), set()) - shown:
            self.end(name, dict(labels), time_s)
        self._shown[job, instance] = shown
        self._forget(time_s)

    def add(self, line: Scraped, time_s: float) -> None:
        """One sample; of a series that no expression reads it is not kept."""
        self._append(line.name, line.labels, Sample(time_s, line.value))

    def end(self, name: str, labels: Mapping[str, str], time_s: float) -> None:
        """The series is no longer shown."""
        self._append(name, labels, Sample(time_s, None))

    def select(
        self, name: str, wanted: Callable[[Mapping[str, str]], bool]
    ) -> Iterator[tuple[dict[str, str], deque[Sample]]]:
        """(labels, samples by time) of the series of this name that are wanted."""
        for labels, samples in self._series.get(name, {}).items():
            named = dict(labels)
            if wanted(named):
                yield named, samples

    def _append(self, name: str, labels: Mapping[str, str], sample: Sample) -> None:
        series = self._series.get(name)
        if series is not None:
            series.setdefault(frozenset(labels.items()), deque()).append(sample)

    def _forget(self, now_s: float) -> None:
        for series in self._series.values():
            for labels in list(series):
                samples = series[labels]
                while samples and samples[0].time_s < now_s - self._keep_s:
                    samples.popleft()
                if not samples:
                    del series[labels]
