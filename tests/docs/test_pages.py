"""The docs are those of the code: settings, links, commands that the README names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from api.cli.main import COMMANDS
from tests.docs.settings_table import PATH, render_page

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_every_setting_is_in_the_docs() -> None:
    assert PATH.read_text(encoding="utf-8") == render_page(), "run: python -P -m tests.docs.settings_table"


def test_every_setting_says_what_it_means() -> None:
    assert [row for row in render_page().splitlines() if row.endswith("|  |")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_shown_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    shown = set(re.findall(r"(?:`|^|\n)ratchet ([a-z]+)\b", text))
    assert shown - set(COMMANDS) == set()


def test_the_make_targets_that_the_readme_shows_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    shown = set(re.findall(r"(?:`|^)make ([a-z]+)", (ROOT / "README.md").read_text(encoding="utf-8"), re.M))
    assert shown - targets == set()
