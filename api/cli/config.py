"""`ratchet config show`."""

from __future__ import annotations

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.project import Project

_SECRET = ("key", "password", "secret")


@click.group()
def config() -> None:
    """Settings: `ratchet.toml`, overridden by RATCHET_<SECTION>__<KEY>."""


@config.command()
@click.option("--secrets", is_flag=True, help="Show keys and passwords, too.")
@click.pass_obj
def show(project: Project, secrets: bool) -> None:
    """Every setting with its value and where it comes from."""
    table = Table(box=None, pad_edge=False)
    for column in ("setting", "value", "origin"):
        table.add_column(column, overflow="fold")
    for key, value, origin in project.loaded.rows():
        hidden = not secrets and key.rpartition(".")[2].endswith(_SECRET) and value
        table.add_row(Text(key), Text("********" if hidden else str(value)), Text(origin))
    Console(highlight=False).print(table)
