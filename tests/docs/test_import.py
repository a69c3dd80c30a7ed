"""What docs/import.md shows is so: mappings are mappings, formats are there, commands parse."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click

from api.cli.imports import TABLES, import_events
from api.settings import load_settings
from ingest.formats.registry import FORMATS
from ingest.formats.tables import columns_of, read_mapping, table_format

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "import.md").read_text(encoding="utf-8")


def test_the_mapping_that_is_shown_is_one() -> None:
    blocks = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", TEXT, re.S)]
    (written,) = (block for block in blocks if "event" in block)
    mapping = read_mapping(written)
    format = table_format("csv", mapping, columns_of(mapping))
    assert format.fields["data.target.rank"] == "place"


def test_the_settings_that_are_shown_are_taken(tmp_path: Path) -> None:
    (shown,) = re.findall(r"```toml\n(\[inbox\].*?)```", TEXT, re.S)
    (tmp_path / "ratchet.toml").write_text(f'{shown}[tenants.acme]\nkey = "k"\n')
    assert load_settings(tmp_path, {}).settings.inbox.tenants == ("acme",)


def test_every_format_is_in_the_table() -> None:
    rows = " ".join(re.findall(r"^\| (`[^|]+) \|", TEXT, re.M))
    assert set(re.findall(r"`([a-z]+)`", rows)) >= {*FORMATS, *TABLES}


def test_options_that_are_named_exist() -> None:
    options = {name for one in import_events.params if isinstance(one, click.Option) for name in one.opts}
    assert set(re.findall(r"(?<!-)(--[a-z][a-z-]+)", TEXT)) <= options
