"""`python -P -m infra.demo`: the whole loop, once around, on real parts, told while it happens."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console
from rich.markup import escape

from infra.demo.customers import Control
from infra.demo.errors import DemoError
from infra.demo.place import Place
from infra.demo.plan import Plan
from infra.demo.report import Report
from infra.demo.result import print_result
from infra.demo.run import run_demo
from infra.demo.telling import Teller

_STORY = {
    "none": "Customers click on what helps them; then they begin to ask about other topics.",
    "shuffled": "A control: clicks say nothing. Nothing may be promoted.",
    "nodrift": "A control: the traffic never moves. Nothing may alarm.",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the demo. An honest "not promoted" is a result; what fails is one sentence and exit code 1."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of ids, topics, customers (default 1)")
    parser.add_argument("--control", choices=get_args(Control), default="none")
    parser.add_argument("--directory", type=Path, default=Path("var/demo"), help="default var/demo")
    asked = parser.parse_args(arguments)
    console = Console(highlight=False)
    place = Place(asked.directory)
    plan = Plan(seed=asked.seed, control=asked.control)
    console.print(
        f"[bold]Ratchet's demo[/] · seed {plan.seed} · control {plan.control} · 2 cores: about 10 min"
    )
    console.print(f"{_STORY[plan.control]} Everything is in {escape(str(place.directory))}.", soft_wrap=True)
    try:
        with place.taken():
            report = asyncio.run(_interruptible(plan, place, Teller(console)))
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)  # noqa: T201 - the last word on standard error
        sys.exit(1)
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("demo: interrupted; everything was stopped", file=sys.stderr)  # noqa: T201
        sys.exit(130)
    print_result(report, console, str(place.report))


async def _interruptible(plan: Plan, place: Place, teller: Teller) -> Report:
    """The run, cancelled by SIGTERM as by Ctrl-C: then it stops what it started."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    return await run_demo(plan, place, teller)


if __name__ == "__main__":
    main()
