"""The stream worker as a rebuild sees it: how far it is, and paused for a moment."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.text import Text

from api.cli.project import Project
from infra.local import stack
from infra.local.control import StackEvent
from schemas.errors import Fatal

if TYPE_CHECKING:
    from streams.settings import StreamSettings


class StackWorker:
    """`PausableWorker`: the one of the local stack, or one that runs elsewhere and that a person stopped."""

    def __init__(self, project: Project, console: Console, *, stopped_elsewhere: bool) -> None:
        self._project = project
        self._console = console
        self._stopped_elsewhere = stopped_elsewhere

    async def committed(self) -> dict[str, dict[int, int]]:
        """What it has committed. Raises Retryable, Fatal."""
        settings = self._project.settings
        return await committed_when_stopped(
            settings.kafka.bootstrap, settings.streams, ask_whether_stopped=self._stopped_elsewhere
        )

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[dict[str, dict[int, int]]]:
        """Stop it where it runs below `var/`, start it again behind the block, whatever happens in it."""
        from api.cli.local_stack import running_workers

        data = self._project.data
        workers = [] if self._stopped_elsewhere else running_workers(self._project)
        if not workers:
            yield await self.committed()
            return
        try:
            for name in reversed(workers):
                await asyncio.to_thread(stack.stop, data, name)
            self._console.print("[dim]the worker is paused; doors go on taking events[/]")
            yield await self.committed()
        finally:
            for name in workers:
                await asyncio.to_thread(stack.start, data, name)
            self._console.print("[dim]the worker runs again[/]")


async def committed_when_stopped(
    bootstrap: str, streams: StreamSettings, *, ask_whether_stopped: bool
) -> dict[str, dict[int, int]]:
    """Topic → partition → next offset that the worker has committed.

    A broker that has just started is waited for until it knows them, `retry_for_s` at most (Fatal). With
    `ask_whether_stopped` a group that still has members after two session timeouts is Fatal: a worker would
    go on writing tables that are about to be exchanged. Raises Retryable if no broker answers.
    """
    from infra.kafka.log import GroupProgress
    from streams.persistence import persist

    async with GroupProgress(bootstrap, streams.group) as group:
        if ask_whether_stopped:
            give_up_at = time.monotonic() + 2 * streams.session_timeout_s
            while members := await persist(
                group.members, doing="asking whether the worker is stopped", retry_for_s=streams.retry_for_s
            ):
                if time.monotonic() > give_up_at:
                    raise Fatal(
                        f"expected no worker in group {streams.group!r}, but {', '.join(members)} "
                        "is still in it: stop it, then rebuild"
                    )
                await asyncio.sleep(0.5)
        progress = await persist(
            group.read, doing="reading what the worker has committed", retry_for_s=streams.retry_for_s
        )
    return {topic: {p: one.committed for p, one in ps.items()} for topic, ps in progress.items()}


@contextmanager
def log_and_store(project: Project, console: Console, *, run_elsewhere: bool) -> Iterator[None]:
    """Kafka and ClickHouse run inside the block: those of the stack, else started for as long as it takes."""
    if run_elsewhere or stack.status(project.data).supervisor_pid is not None:
        yield
        return
    from api.cli.local_stack import local_stack

    whole = local_stack(project, learn=False)
    names = ("kafka", "clickhouse")
    needed = tuple(process for process in whole.processes if process.name in names)
    ports = {name: port for name, port in whole.ports.items() if name.split("'")[0] in names}

    def tell(event: StackEvent) -> None:
        console.print(Text(f"{event.process:<11}{event.text}", "dim"))

    with stack.up(msgspec.structs.replace(whole, processes=needed, ports=ports), tell, tied=True):
        yield
