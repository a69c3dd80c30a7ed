"""The root command. Groups are imported when they are called, so that `ratchet status` stays quick."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from schemas.errors import RatchetError

#: command → (module, attribute, one line of help)
COMMANDS: Final = {
    "up": ("api.cli.stack", "up", "Start everything and keep it running."),
    "down": ("api.cli.stack", "down", "Drain and stop everything, in order."),
    "status": ("api.cli.stack", "status", "What runs, since when, healthy, how far behind."),
    "config": ("api.cli.config", "config", "Settings: value and origin."),
    "keys": ("api.cli.keys", "keys", "API keys: issue, list, revoke."),
    "documents": ("api.cli.documents", "documents", "Load documents."),
    "import": ("api.cli.imports", "import_events", "Load old events from a file."),
    "sql": ("api.cli.sql", "sql", "One SELECT over the promised views."),
    "doctor": ("api.cli.doctor", "doctor", "What is missing before feedback can be learned from."),
    "rejected": ("api.cli.rejected", "rejected", "What was refused: why, mend, replay, discard."),
    "trace": ("api.cli.trace", "trace", "Where an event or query is, and what followed from it."),
    "topics": ("api.cli.topics", "topics", "Topics of the log; more partitions."),
    "rebuild": ("api.cli.rebuild", "rebuild", "Build the tables anew from the log, compare, swap."),
    "diff": ("api.cli.diff", "diff", "Compare two stores by content; name the rows that differ."),
    "backup": ("api.cli.backup", "backup", "Save log, artifacts and configuration into a directory."),
    "restore": ("api.cli.backup", "restore", "Fill an empty stack from a backup."),
    "train": ("api.cli.learning", "train", "Request a training now."),
    "canary": ("api.cli.learning", "canary", "Try an admitted version on some users."),
    "model": ("api.cli.model", "model", "Versions: list, why, promote, rollback, export."),
    "evaluate": ("api.cli.evaluate", "evaluate", "Score versions on questions with known answers."),
    "experiment": ("api.cli.experiment", "experiment", "A/B tests: define, start, stop, results."),
    "story": ("api.cli.story", "story", "The lifecycle as prose, with causes."),
    "chaos": ("api.cli.chaos", "chaos", "Break a scratch stack under load, then count."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Commands in the order of a day's work."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--directory",
    "-C",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: os.environ.get("RATCHET_DIRECTORY", "."),
    help="The project's directory: holds ratchet.toml and var/. Default: $RATCHET_DIRECTORY or here.",
)
@click.version_option(package_name="ratchet-platform", prog_name="ratchet")
@click.pass_context
def cli(context: click.Context, directory: Path) -> None:
    """Ratchet: every query, hit and click is an event; quality moves one way."""
    from api.cli.project import Project

    context.obj = Project(Path(directory).resolve())


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line. A known problem is one sentence on standard error and exit code 1."""
    from infra.local.spec import StackError

    try:
        cli.main(
            args=None if arguments is None else list(arguments), prog_name="ratchet", standalone_mode=False
        )
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.Abort:
        print("ratchet: interrupted", file=sys.stderr)  # noqa: T201 - the last word on standard error
        sys.exit(130)
    except (RatchetError, StackError) as error:
        print(f"ratchet: {error}", file=sys.stderr)  # noqa: T201 - the last word on standard error
        sys.exit(1)
