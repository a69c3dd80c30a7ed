"""What is broken, and when: drawn from a seed, before anything runs. Pure."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

from msgspec import Struct

#: kill -9 of one of the stack's processes is `kill <name>`; these are the others.
KILL_SUPERVISOR: Final = "kill supervisor"
KILL_SECOND: Final = "kill second worker"
PAUSE_WORKER: Final = "pause worker"
PAUSE_WORKER_MOVED: Final = "pause worker, partitions move"
STOP_STORE: Final = "pause clickhouse"
SLOW_STORE: Final = "slow clickhouse"
REFUSING_STORE: Final = "refusing clickhouse"
FULL_STORE: Final = "full disk, clickhouse"
FULL_LOG: Final = "full disk, kafka"
MOVE_PARTITIONS: Final = "partitions move"

#: How often each process is drawn, for one of the others.
_WEIGHTS: Final = {"api": 2, "streams": 2, "clickhouse": 2}
_SECONDS_BETWEEN: Final = (0.5, 2.5)
_OVERLAP_S: Final = 2.0
#: Chance that a round of kills has something else in it.
_MISFORTUNE: Final = 0.6


class Fault(Struct, frozen=True):
    """One thing that goes wrong, `after_s` seconds after its round began."""

    kind: str
    after_s: float = 0.0

    @property
    def is_kill(self) -> bool:
        """A process ends by kill -9."""
        return self.kind.startswith("kill ")


class Round(Struct, frozen=True):
    """Faults that overlap; the next round waits until all have recovered, and then `pause_s`."""

    faults: tuple[Fault, ...]
    pause_s: float


def plan_rounds(kills: int, seed: int, names: Sequence[str], others: Sequence[str]) -> list[Round]:
    """Rounds with at least `kills` kills of the processes `names`, the supervisor and the second worker.

    `others`: what else may go wrong, in turn. Everything comes alone once, so that its recovery can be told
    from that of others, mixed with rounds in which up to four faults overlap.
    """
    dice = random.Random(seed)
    kinds = [f"kill {name}" for name in names for _ in range(_WEIGHTS.get(name, 1))]
    kinds += [KILL_SUPERVISOR, KILL_SECOND]
    alone = [*dict.fromkeys(kinds), *others]
    dice.shuffle(alone)
    deck: list[str] = []
    misfortunes: list[str] = []
    rounds: list[Round] = []
    killed = 0
    while killed < kills:
        chosen: list[str] = []
        if alone and len(rounds) % 3 != 2:
            chosen.append(alone.pop())
        else:
            for _ in range(dice.choice((1, 1, 2, 2, 3))):
                deck = deck or dice.sample(kinds, k=len(kinds))
                if deck[-1] not in chosen:
                    chosen.append(deck.pop())
            if others and dice.random() < _MISFORTUNE:
                misfortunes = misfortunes or dice.sample(list(others), k=len(others))
                chosen.insert(dice.randrange(len(chosen) + 1), misfortunes.pop())
        if chosen.count(KILL_SUPERVISOR) and len(chosen) > 1:
            # last: those that are killed together with it were alive until then
            chosen.remove(KILL_SUPERVISOR)
            chosen.append(KILL_SUPERVISOR)
        delays = [0.0, *sorted(dice.uniform(0, _OVERLAP_S) for _ in chosen[1:])]
        faults = tuple(Fault(kind, round(delay, 2)) for kind, delay in zip(chosen, delays, strict=True))
        rounds.append(Round(faults, round(dice.uniform(*_SECONDS_BETWEEN), 2)))
        killed += sum(fault.is_kill for fault in faults)
    return rounds
