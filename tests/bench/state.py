"""The fold beside five million episodes, 5 % of the events late feedback for them: how much slower it is.

The store is filled in SQL: real rows of one round of traffic, each many times under other ids.
"""

from __future__ import annotations

import time
from typing import Final

import httpx
import psutil
from msgspec import Struct

from tests.bench.figures import Figure, Result
from tests.bench.folding import Load, Round, fold_round
from tests.bench.stack import BenchError, Stack, command_text, running_stack, wait_for
from tests.bench.traffic import STORED_ID, Ids

#: Queries of one INSERT … SELECT: its blocks must fit into memory.
_AT_ONCE: Final = 100_000
#: Real queries that are multiplied.
_SEEDS: Final = 5_000
_TARGETS: Final[dict[Ids, float]] = {"time": 1.3, "random": 2.0}


class Sizes(Struct, frozen=True):
    """How much is stored, and folded beside it."""

    stored: int
    repetitions: int
    requests: int


FULL = Sizes(5_000_000, 3, 600)
QUICK = Sizes(200_000, 1, 30)


def measure(*, quick: bool) -> Result:
    """For each kind of ids: rounds on an empty store, fill it, the same rounds again."""
    sizes = QUICK if quick else FULL
    figures: list[Figure] = []
    details: dict[str, object] = {}
    memory: list[float] = []
    load = Load(sizes.requests)
    for ids, target in _TARGETS.items():
        with running_stack(f"state-{ids}") as stack:
            load = Load(sizes.requests, ids)
            empty = _rounds(stack, load, sizes.repetitions)
            stack.stop("streams")
            filled_s = _fill(stack, ids, sizes.stored)
            wait_for("the merges of what was filled in", lambda: _merged(stack), 300.0)
            late = Load(sizes.requests, ids, sizes.stored)
            full = _rounds(stack, late, sizes.repetitions)
            memory.append(_resident_mb(stack.pids()["streams"]))
            details[ids] = {
                "empty": empty,
                "full": full,
                "fill_s": filled_s,
                "parts": _ask(stack, _PARTS),
            }
        figures.append(
            Figure(
                name=f"slowdown of the fold beside {sizes.stored:,} episodes, {ids} ids",
                unit="×",
                target=target,
                better="lower",
                values=tuple(_speed(empty) / _speed([one]) for one in full),
            )
        )
    figures.append(
        Figure(
            name="memory of the worker beside them (resident)",
            unit="MB",
            target=500,
            better="lower",
            values=tuple(memory),
        )
    )
    return Result(
        name="state",
        figures=tuple(figures),
        commands=(command_text("tests.bench.load", *load.arguments("URL", "KEY")),),
        details=details,
    )


def _rounds(stack: Stack, load: Load, repetitions: int) -> list[Round]:
    """So many, after one that is not counted: marks and indices are read when they are first needed."""
    fold_round(stack, load)
    return [fold_round(stack, load) for _ in range(repetitions)]


def _merged(stack: Stack) -> bool:
    """No merge goes on: nobody fills a store in two minutes, so its merges must not be in the figure."""
    return int(_ask(stack, "SELECT count() FROM system.merges")) == 0


def _speed(rounds: list[Round]) -> float:
    """Events a second over these rounds."""
    return sum(one.events for one in rounds) / sum(one.seconds for one in rounds)


_PARTS: Final = (
    "SELECT table, count(), sum(rows), sum(bytes_on_disk) FROM system.parts "
    "WHERE active AND database = 'ratchet_store' GROUP BY table ORDER BY table FORMAT TSV"
)


def _fill(stack: Stack, ids: Ids, queries: int) -> float:
    """Store `queries` more queries with their events; the seconds that it took. The worker is stopped."""
    started = time.perf_counter()
    _ask(stack, "CREATE DATABASE IF NOT EXISTS seed")
    _ask(
        stack,
        "CREATE TABLE seed.places ENGINE = Memory AS "
        "SELECT query_id, toUInt32(rowNumberInAllBlocks()) AS place "
        f"FROM (SELECT query_id FROM ratchet.episodes WHERE clicks = 1 LIMIT {_SEEDS})",
    )
    for table in ("events", "episodes", "contributions"):
        described = _ask(stack, f"DESCRIBE ratchet_store.{table} FORMAT TSV").splitlines()
        names = [name for name, _, default, *_ in (line.split("\t") for line in described) if not default]
        _ask(
            stack,
            f"CREATE TABLE seed.{table} ENGINE = Memory AS SELECT s.*, p.place AS place "
            f"FROM ratchet_store.{table} AS s INNER JOIN seed.places AS p ON s.query_id = p.query_id",
        )
        values = {"query_id": "f.new_id"}
        if table == "events":
            fresh = "if(s.event_id = s.query_id, f.new_id, lower(hex(MD5(concat(s.event_id, f.new_id)))))"
            values["event_id"] = fresh
            values["record"] = f"replaceAll(replaceAll(s.record, s.query_id, f.new_id), s.event_id, {fresh})"
        chosen = ", ".join(values.get(name, f"s.{name}") for name in names)
        for start in range(0, queries, _AT_ONCE):
            _ask(
                stack,
                f"INSERT INTO ratchet_store.{table} ({', '.join(names)}) "
                f"SELECT {chosen} FROM seed.{table} AS s "
                f"INNER JOIN (SELECT {STORED_ID[ids]} AS new_id, toUInt32(number % {_SEEDS}) AS place "
                f"FROM numbers({start}, {min(_AT_ONCE, queries - start)})) AS f ON s.place = f.place",
            )
    _ask(stack, "DROP DATABASE seed")
    return time.perf_counter() - started


def _ask(stack: Stack, statement: str) -> str:
    """The answer to a statement of the writer's account. Raises BenchError."""
    store = stack.clickhouse
    answer = httpx.post(store.url, content=statement, auth=(store.user, store.password), timeout=600)
    if answer.status_code != 200:
        raise BenchError(f"the store refused {statement[:200]!r}: {answer.text[:500]}")
    return answer.text


def _resident_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_info().rss / 1e6)
