"""Which arm a unit gets: the GrowthBook hash, so that any GrowthBook SDK assigns alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_FNV_OFFSET: Final = 0x811C9DC5
_FNV_PRIME: Final = 0x01000193


def fnv32a(text: str) -> int:
    """FNV-1a, 32 bit, over UTF-16 code units (as JavaScript's `charCodeAt` sees them)."""
    value = _FNV_OFFSET
    data = text.encode("utf-16-le")
    for low, high in zip(data[::2], data[1::2], strict=True):
        value = (value ^ (low | high << 8)) * _FNV_PRIME & 0xFFFFFFFF
    return value


def assignment_hash(seed: str, unit: str) -> float:
    """GrowthBook hash version 2: a number in [0, 1) in steps of 1/10,000."""
    return fnv32a(str(fnv32a(seed + unit))) % 10_000 / 10_000


def assign_arm(seed: str, unit: str, weights: Sequence[float], *, coverage: float = 1.0) -> int | None:
    """Index of the arm of this unit, or None if it is not in the experiment.

    Arm i owns [start_i, start_i + weight_i · coverage), where start_i is the sum of the weights before
    it (half-open, GrowthBook `getBucketRanges`). `weights` sum to 1.
    """
    value = assignment_hash(seed, unit)
    start = 0.0
    for index, weight in enumerate(weights):
        if start <= value < start + weight * coverage:
            return index
        start += weight
    return None
