"""`ratchet topics`: the log's topics, and more partitions for one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from api.cli.lifecycle import History, carry_out, read_history
from api.cli.local_stack import running_workers
from api.cli.progress import steps_progress
from api.cli.project import Project
from infra.local import stack
from schemas.errors import RatchetError
from schemas.lifecycle import TopicClosed, TopicOpened
from schemas.topics import GROWABLE, PLATFORM, TOPICS

_MOST: Final = 10_000
_topic = click.argument("topic", type=click.Choice(GROWABLE))


@click.group()
def topics() -> None:
    """The topics of the log: how many partitions each has, and more of them."""


@topics.command("list")
@click.pass_obj
def list_topics(project: Project) -> None:
    """Topics with their partitions, keys and whether doors are closed for them."""
    from infra.kafka.grow import partition_counts

    counts = asyncio.run(partition_counts(project.settings.kafka.bootstrap))
    state = read_history(project.settings, PLATFORM).state
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("topic", "partitions", "key", "doors"):
        table.add_column(column, justify="right" if column == "partitions" else "left")
    for topic in TOPICS:
        doors = "closed" if topic.name in state.closed else "open"
        table.add_row(topic.name, str(counts.get(topic.name, 0)), topic.key, doors)
    Console(highlight=False).print(table)


@topics.command("grow")
@_topic
@click.argument("partitions", type=click.IntRange(2, _MOST))
@click.option(
    "--drain-timeout",
    "drain_s",
    default=120.0,
    show_default=True,
    help="Seconds that the workers may take to commit what is in the topic.",
)
@click.pass_obj
def grow(project: Project, topic: str, partitions: int, drain_s: float) -> None:
    """Give TOPIC so many PARTITIONS; it cannot have fewer again.

    Doors answer 503 with Retry-After for this topic until it is done, in every process: callers send the same
    ids again, and nothing is lost. Then the workers commit what is there, the topic is raised, the workers
    start anew, and doors open. Workers elsewhere end by themselves when they see the new count and have to be
    started again, as any supervisor does. If it fails or is interrupted, doors open again; run it once more.
    """
    from infra.kafka.grow import partition_counts, raise_partitions, wait_drained

    settings = project.settings
    bootstrap = settings.kafka.bootstrap
    present = asyncio.run(partition_counts(bootstrap)).get(topic, 0)
    if partitions < present:
        raise click.ClickException(f"{topic} has {present} partitions, and Kafka cannot take any away")
    if partitions == present:
        raise click.ClickException(
            f"{topic} has {present} partitions already"
            + ("" if not is_closed(project, topic) else f"; doors are closed: `ratchet topics open {topic}`")
        )
    console = Console(stderr=True, highlight=False)
    with doors_closed(project, topic, f"raising its partitions from {present} to {partitions}"):
        console.print(f"doors are closed for {topic}")
        with steps_progress(console) as progress:
            task = progress.add_task(f"records of {topic} to commit", total=None)
            drained = asyncio.run(
                wait_drained(
                    bootstrap,
                    settings.streams.group,
                    topic,
                    limit_s=drain_s,
                    tell=lambda lag: progress.update(task, completed=lag),
                )
            )
        console.print(f"all {drained:,} records of {topic} are committed")
        with workers_stopped(project):
            asyncio.run(raise_partitions(bootstrap, topic, partitions))
        console.print(f"{topic} has {partitions} partitions")
    console.print("doors are open")


@topics.command("open")
@_topic
@click.pass_obj
def open_topic(project: Project, topic: str) -> None:
    """Open the doors of TOPIC again, after a `grow` that was killed."""
    if not is_closed(project, topic):
        raise click.ClickException(f"doors are open for {topic}")
    reopen(project, topic)
    click.echo(f"doors are open for {topic}")


def is_closed(project: Project, topic: str) -> bool:
    """Doors take nothing for this topic now. Raises Retryable."""
    return topic in read_history(project.settings, PLATFORM).state.closed


def reopen(project: Project, topic: str) -> None:
    """Open the doors, with as many partitions as the broker knows. Raises Retryable, ClickException."""
    from infra.kafka.grow import partition_counts

    present = asyncio.run(partition_counts(project.settings.kafka.bootstrap))[topic]

    def order(history: History) -> tuple[Struct, str]:
        return TopicOpened(topic=topic, partitions=present), history.state.closed.get(topic, "")  # type: ignore[arg-type]

    carry_out(project.settings, PLATFORM, order)


@contextmanager
def doors_closed(project: Project, topic: str, reason: str) -> Iterator[None]:
    """Doors of this topic are closed inside the block and open after it, whatever happens in it.

    One that was closed before, by a command that was killed, is taken over.
    """
    if not is_closed(project, topic):
        carry_out(
            project.settings,
            PLATFORM,
            lambda _: (TopicClosed(topic=topic, reason=reason), ""),  # type: ignore[arg-type]
        )
    try:
        yield
    except BaseException:
        try:
            reopen(project, topic)
        except (RatchetError, click.ClickException) as error:
            raise click.ClickException(
                f"doors stay closed for {topic} ({error}): `ratchet topics open {topic}`"
            ) from error
        raise
    reopen(project, topic)


@contextmanager
def workers_stopped(project: Project) -> Iterator[None]:
    """The stream workers of a stack that runs here do not run inside the block."""
    workers = running_workers(project)
    for name in reversed(workers):
        stack.stop(project.data, name)
    try:
        yield
    finally:
        for name in workers:
            stack.start(project.data, name)
