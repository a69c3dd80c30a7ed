"""Where promtool is: on the PATH, or where `infra/local/promtool.sh` put it beside the interpreter."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def find_promtool() -> str | None:
    """Its path, or None: then what needs it is held in another way, and `report` says so."""
    return shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))


def report() -> str:
    """A line for the head of pytest's output."""
    found = find_promtool()
    return f"promtool: {found or 'not found; alert rules are tested by the evaluation inside only'}"
