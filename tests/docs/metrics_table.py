"""The table of metrics in `docs/operations.md`, from `schemas/telemetry.py`.

python -P -m tests.docs.metrics_table     writes the part between the two marks anew
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from schemas.telemetry import METRICS

PATH: Final = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
BEGIN: Final = "<!-- generated from schemas/telemetry.py: python -P -m tests.docs.metrics_table -->"
END: Final = "<!-- end of the generated part -->"


def render_table() -> str:
    """The table, a row a metric."""
    rows = [
        "| metric | kind | unit | labels | meaning | when it moves the wrong way |",
        "|---|---|---|---|---|---|",
    ]
    for metric in METRICS:
        cells = (
            f"`{metric.name}`",
            metric.kind,
            metric.unit,
            ", ".join(f"`{label}`" for label in metric.labels) or "–",
            metric.meaning,
            metric.operator_action or "–",
        )
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows)


def split(text: str) -> tuple[str, str, str]:
    """Before, between and after the marks. Raises ValueError if they are not there once each."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"expected the marks {BEGIN!r} and {END!r} once each in {PATH}")
    before, _, rest = text.partition(BEGIN)
    between, _, after = rest.partition(END)
    return before, between.strip(), after


if __name__ == "__main__":
    head, _, tail = split(PATH.read_text(encoding="utf-8"))
    PATH.write_text(f"{head}{BEGIN}\n{render_table()}\n{END}{tail}", encoding="utf-8")
