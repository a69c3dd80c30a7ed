"""The reference in docs/cli.md is the one in the code, and the command line stays light."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from api.cli.experiment import parse_arm
from api.cli.main import COMMANDS, cli
from api.cli.manual import put_manual, render_manual
from schemas.lifecycle import Arm

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HEAVY = (
    "torch",
    "pandas",
    "evidently",
    "optuna",
    "transformers",
    "sentence_transformers",
    "scipy",
    "faust",
    "aiokafka",
)


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == put_manual(page), "run `python -P -m api.cli.manual docs/cli.md`"


def test_a_page_without_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="marks"):
        put_manual("# nothing")


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from leaves(inner, f"{path} {name}")
    else:
        yield path, command


def test_every_command_says_what_it_does_and_is_in_the_reference() -> None:
    manual = render_manual()
    for path, command in leaves(cli, "ratchet"):
        assert command.help, path
        assert path in manual
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert max(parameter.opts, key=len) in manual, f"{path}: {parameter.name}"


def test_help_and_sql_import_nothing_heavy() -> None:
    # `up` and `status` talk to Kafka, `evaluate` loads a model
    light = sorted({module for module, _, _ in COMMANDS.values()} - {"api.cli.stack", "api.cli.evaluate"})
    code = f"""
import importlib, sys
for module in {light!r}:
    importlib.import_module(module)
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("text", "arm"),
    [("a=.5", Arm("a", 0.5)), ("b=0.25:1.2.0", Arm("b", 0.25, "1.2.0")), (" c =1", Arm("c", 1.0))],
)
def test_an_arm(text: str, arm: Arm) -> None:
    assert parse_arm(text) == arm


@pytest.mark.parametrize("text", ["a", "=.5", "a=", "a=2", "a=-1", "a=x", "a=nan"])
def test_no_arm(text: str) -> None:
    with pytest.raises(click.BadParameter, match="expected NAME=WEIGHT"):
        parse_arm(text)
