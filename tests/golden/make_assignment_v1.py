"""Makes `assignment_v1.json`: what the GrowthBook SDK answers. Run once, with that SDK; never rewritten.

    uv run --with growthbook==4.0 tests/golden/make_assignment_v1.py

Python's SDK hashes code points and JavaScript's UTF-16 code units. The second is the convention (a browser
and a server must agree), so every text goes in as its code units: an emoji is two characters.
"""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

from growthbook import core  # type: ignore[import-not-found,unused-ignore]

SEEDS = ("exp-1", "exp-2", "rollout-1.1.0", "año-β", "实验", "🧪")
UNITS = (
    *(f"u{number}" for number in range(20)),
    "u-4821",
    "ünï",
    "Jürgen Groß",
    "Ωmega",
    "用户-17",
    "مستخدم",
    "e\u0301",
    "\u00e9",
    "👩\u200d🔬",
    "🇳🇱",
    "a b\tc",
    "x" * 256,
)
SPLITS: tuple[tuple[list[float], float], ...] = (
    ([0.5, 0.5], 1.0),
    ([0.5, 0.5], 0.5),
    ([0.9, 0.1], 1.0),
    ([0.33, 0.33, 0.34], 1.0),
    ([0.2, 0.3, 0.5], 0.3),
)


def as_javascript(text: str) -> str:
    """The text with one character for each UTF-16 code unit."""
    units = text.encode("utf-16-le")
    return "".join(chr(low | high << 8) for low, high in zip(units[::2], units[1::2], strict=True))


def vectors() -> list[dict[str, Any]]:
    """A hash for each seed and unit, and the index of its arm in each split (null: not in it)."""
    found = []
    for seed, unit in product(SEEDS, UNITS):
        value = core.gbhash(as_javascript(seed), as_javascript(unit), 2)
        chosen = (
            core.chooseVariation(value, core.getBucketRanges(len(weights), coverage, weights))
            for weights, coverage in SPLITS
        )
        arms = [None if arm < 0 else arm for arm in chosen]
        found.append({"seed": seed, "unit": unit, "hash": value, "arms": arms})
    return found


if __name__ == "__main__":
    splits = [{"weights": weights, "coverage": coverage} for weights, coverage in SPLITS]
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in vectors())
    target = Path(__file__).with_name("assignment_v1.json")
    target.write_text(f'{{"splits": {json.dumps(splits)},\n"vectors": [\n{lines}\n]}}\n', encoding="utf-8")
