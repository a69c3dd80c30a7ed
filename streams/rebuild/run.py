"""The two things that are done with a build: put it in the place of the living tables, or keep it beside."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.errors import Fatal
from streams.fold import FOLD_VERSION
from streams.ports import Difference, Digest, LogReader, Offsets, PausableWorker, StoreBeside
from streams.rebuild.build import Build, Progress, ignore, open_build
from streams.rebuild.state import BuildState, LogOffsets
from streams.settings import StreamSettings

#: What depends on the fold's version as well as on the log.
_DERIVED: Final = frozenset({"episodes", "pairs", "contributions"})
#: So few records are read while the worker is paused.
_SMALL_REMAINDER: Final = 2_000
_MOST_ROUNDS: Final = 50
#: A round that leaves more than this share of the one before gains nothing: the worker is as fast.
_WORTH_ANOTHER_ROUND: Final = 0.8
#: Rows that are named of a table that differs.
NAMED_ROWS: Final = 10


class RebuildReport(Struct, frozen=True, kw_only=True):
    """What a rebuild found. `different`: tables whose digests differ; it swaps only if there are none."""

    records: dict[str, int]
    queries: int
    living: dict[str, Digest]
    beside: dict[str, Digest]
    different: tuple[str, ...]
    #: The first rows that differ, by table.
    differences: tuple[Difference, ...] = ()
    #: Tables that were not compared: another version of the fold, or none, wrote the living ones.
    not_compared: tuple[str, ...]
    swapped: bool
    #: Both stores were compared there.
    offsets: LogOffsets
    #: An earlier rebuild's unfinished work was gone on with.
    resumed: bool
    #: So long it took to read and fold what the worker had committed at the beginning, or the rest of it.
    built_s: float
    #: For so long the worker stood still, its stopping and starting not counted.
    paused_s: float


class Kept(Struct, frozen=True, kw_only=True):
    """A store that is kept beside: the log before `offsets`."""

    records: dict[str, int]
    beside: dict[str, Digest]
    offsets: LogOffsets
    fold_version: int
    resumed: bool


async def rebuild(
    reader: LogReader,
    store: StoreBeside,
    worker: PausableWorker,
    settings: StreamSettings,
    *,
    progress: Progress = ignore,
    accept_difference: bool = False,
    afresh: bool = False,
    clock: Callable[[], float] = time.perf_counter,
) -> RebuildReport:
    """Build the tables anew while the worker goes on; pause it, compare, swap, let it go on (L6).

    Everything that the worker had committed at the beginning is read and folded; then what it commits
    meanwhile, until little is left; the rest once it is paused. So both stores hold the same offsets when
    they are compared. If they are equal the new tables take the place of the living ones. If they differ
    nothing is swapped, unless `accept_difference`: the log is the truth, so the new store is right wherever
    the old one was damaged. But it also differs if the worker was killed between writing and committing:
    let it run a moment, then rebuild.

    A rebuild that was killed is gone on with, unless `afresh`. Raises Fatal if the log has forgotten its
    beginning, the worker does not stop, or the store stays down.
    """
    committed = await worker.committed()

    def goes_on(state: BuildState) -> bool:
        # tables that are half exchanged have to be exchanged, whoever asks for what
        return state.phase == "swap" or not (afresh or state.phase == "kept" or state.ahead_of(committed))

    build = await open_build(reader, store, committed, settings, progress=progress, goes_on=goes_on)
    if build.state.phase == "swap":
        async with worker.paused():
            await _swap(build, store, progress)
        return _only_swapped(build.state)
    began_at = clock()
    await build.read()
    built_s = clock() - began_at
    await _follow_while_it_works(build, worker)
    async with worker.paused() as offsets:
        paused_at = clock()
        await build.follow(offsets)
        report = await _compare(build, store, progress)
        swap = not report.different or accept_difference
        if swap:
            await _swap(build, store, progress)
        else:
            await store.drop()
        paused_s = clock() - paused_at
    return replace(report, swapped=swap, built_s=built_s, paused_s=paused_s)


async def keep_as_of(
    reader: LogReader,
    store: StoreBeside,
    offsets: Mapping[str, Offsets],
    settings: StreamSettings,
    *,
    progress: Progress = ignore,
    afresh: bool = False,
) -> Kept:
    """Fold the log before `offsets` into a store that stays beside. Pauses nobody, compares nothing.

    One that was killed is gone on with, if it was of the same offsets, unless `afresh`. Raises Fatal as
    `rebuild` does, and if a whole store of other offsets is kept there (unless `afresh`).
    """
    wanted = {topic: dict(ends) for topic, ends in offsets.items()}

    def goes_on(state: BuildState) -> bool:
        if afresh:
            return False
        if state.phase == "kept" and state.target != wanted:
            raise Fatal(
                "a store of other offsets is kept under this name: drop it first, take another name, or "
                "start afresh"
            )
        return state.target == wanted

    build = await open_build(reader, store, wanted, settings, progress=progress, goes_on=goes_on)
    await build.read()
    await build.note(replace(build.state, phase="kept"))
    _, beside = await store.digests()
    return Kept(
        records=build.state.records,
        beside=beside,
        offsets=wanted,
        fold_version=FOLD_VERSION,
        resumed=build.resumed,
    )


async def _swap(build: Build, store: StoreBeside, progress: Progress) -> None:
    progress("swap", 0, None)
    await build.note(replace(build.state, phase="swap"))
    await store.swap(FOLD_VERSION)


def _only_swapped(state: BuildState) -> RebuildReport:
    """Of an interrupted swap nothing is left to compare: the tables had been equal, or were accepted."""
    return RebuildReport(
        records=state.records,
        queries=0,
        living={},
        beside={},
        different=(),
        not_compared=(),
        swapped=True,
        offsets=state.loaded,
        resumed=True,
        built_s=0,
        paused_s=0,
    )


async def _follow_while_it_works(build: Build, worker: PausableWorker) -> None:
    """Read what the worker commits meanwhile, until it is little, or no less than the time before."""
    before: int | None = None
    for _ in range(_MOST_ROUNDS):
        committed = await worker.committed()
        behind = build.state.behind(committed)
        if behind <= _SMALL_REMAINDER or (before is not None and behind > _WORTH_ANOTHER_ROUND * before):
            return
        await build.follow(committed)
        before = behind


async def _compare(build: Build, store: StoreBeside, progress: Progress) -> RebuildReport:
    progress("compare", 0, None)
    living, beside = await store.digests()
    same_fold = await store.living_fold_version() == FOLD_VERSION
    compared = {name for name in beside if same_fold or name not in _DERIVED}
    different = tuple(sorted(name for name in compared if living.get(name) != beside[name]))
    differences: list[Difference] = []
    for table in different:
        differences += await store.differences(table, NAMED_ROWS)
    return RebuildReport(
        records=build.state.records,
        queries=beside["episodes"].rows,
        living=living,
        beside=beside,
        different=different,
        differences=tuple(differences),
        not_compared=tuple(sorted(beside.keys() - compared)),
        swapped=False,
        offsets=build.state.loaded,
        resumed=build.resumed,
        built_s=0,
        paused_s=0,
    )
