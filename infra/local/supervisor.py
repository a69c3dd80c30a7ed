"""The supervisor: keeps a stack's processes running, in the order of their needs, until it is told to stop.

Written here, after supervisord 4.3 had been tried: it begins a new row of retries whenever a process has
lived for ``startsecs``, so that a program that crashes 1.2 s after its start was started again without a
pause, without end and without ever being FATAL; and it knows neither readiness nor dependencies nor the end
of children after a kill -9. A layer that adds these leaves of it fork and log rotation, and brings a second
state model.

One thread, one event loop; each process has one task, ``_keep``. States: ``starting`` (waits for what it
needs, or is not ready yet), ``running``, ``backoff`` (crashed, will be started again), ``failed`` (crashed
too often; waits for a person), ``stopped``. A process that is not ready in time counts as crashed. What
depends on a process that crashed is left alone, but is not started again before that is ready.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from infra.local.control import (
    Done,
    Happened,
    ProcessState,
    ProcessStatus,
    Refused,
    Reply,
    Request,
    StackEvent,
    StackStatus,
    listen,
)
from infra.local.leftovers import end_leftovers, marks, start_time_s
from infra.local.logfile import LogFile
from infra.local.process import RunningProcess, describe_exit
from infra.local.readiness import is_ready, until_ready
from infra.local.spec import ProcessSpec, StackError, StackFiles, StackSpec, write_whole

_HISTORY = 1000


class Supervised:
    """A process of the stack and where it stands."""

    def __init__(self, spec: ProcessSpec, files: StackFiles, stack: StackSpec) -> None:
        self.spec = spec
        self.log = LogFile(files.log_of(spec.name), stack.log_bytes, stack.log_backups)
        self.env = {**os.environ, **spec.env, **marks(files.directory, spec.name)}
        self.cwd = Path(spec.cwd) if spec.cwd else files.directory
        self.state: ProcessState = "stopped"
        self.since = datetime.now(UTC)
        self.reason = ""
        self.restarts = 0
        self.running: RunningProcess | None = None
        self.task: asyncio.Task[None] | None = None
        #: Held while a request, or the end of the stack, stops and starts it.
        self.lock = asyncio.Lock()

    async def status(self) -> ProcessStatus:
        """How it stands, asking it now whether it is ready."""
        ready = self.state == "running"
        if ready and self.spec.ready is not None:
            ready = await is_ready(self.spec.ready, self.env, self.cwd)
        pid = self.running.pid if self.running and self.running.alive else None
        return ProcessStatus(
            self.spec.name, pid, self.state, self.since, ready, self.restarts, str(self.log.path), self.reason
        )


class Supervisor:
    """Runs one stack. The caller holds the stack's lock and runs ``serve`` once."""

    def __init__(self, stack: StackSpec) -> None:
        self._stack = stack
        self._files = StackFiles(stack.directory)
        self._log = LogFile(self._files.log_of("supervisor"), stack.log_bytes, stack.log_backups)
        self._since = datetime.now(UTC)
        self._all = {spec.name: Supervised(spec, self._files, stack) for spec in stack.start_order()}
        self._events: list[StackEvent] = []
        self._listeners: set[asyncio.Queue[StackEvent]] = set()
        self._changed = asyncio.Event()
        self._draining: asyncio.Task[None] | None = None
        self._pids: dict[str, tuple[int, float]] = {}

    async def serve(self, listener: socket.socket, tie: int | None) -> None:
        """Start everything; return when everything has been stopped, by a request, SIGTERM, SIGINT or the
        tie's end.

        ``tie`` is a pipe that the starter holds open: the stack ends with it.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.drain)
        if tie is not None:
            loop.add_reader(tie, self._tie_ended, tie)
        server = await asyncio.start_unix_server(self._answer, sock=listener)
        for process in self._all.values():
            self._launch(process)
        await self._until(lambda: self._draining is not None and self._draining.done())
        server.close()
        # Those who asked for the end are still to be told that it has come.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.wait(others, timeout=2.0) if others else None

    def drain(self) -> asyncio.Task[None]:
        """Begin to stop everything, each process after all that depend on it; the same task at every call."""
        if self._draining is None:
            self._tell("", "stopping")
            self._draining = asyncio.create_task(self._stop_all())
            self._draining.add_done_callback(lambda _: self._pulse())
        return self._draining

    def _tie_ended(self, tie: int) -> None:
        if not os.read(tie, 4096):
            asyncio.get_running_loop().remove_reader(tie)
            self.drain()

    # --- one process

    def _launch(self, process: Supervised) -> None:
        process.state, process.since, process.reason = "starting", datetime.now(UTC), ""
        process.task = asyncio.create_task(self._keep(process))
        process.task.add_done_callback(lambda task: self._check_kept(process, task))

    def _check_kept(self, process: Supervised, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._enter(
                process, "failed", f"is no longer supervised, by a fault of the supervisor: {error!r}"
            )

    async def _keep(self, process: Supervised) -> None:
        """Start it, again and again, until it has failed; cancelled to stop it."""
        policy = self._stack.restart
        crashes = 0
        while True:
            await self._until_needs_are_met(process)
            self._enter(process, "starting")
            ready_for_s, crash = await self._run_once(process)
            crashes = 1 if ready_for_s >= policy.stable_s else crashes + 1
            if crashes > policy.max_restarts:
                break
            delay_s = policy.delay_s(crashes)
            self._enter(process, "backoff", f"{crash}; starting it again in {delay_s:g} s")
            await asyncio.sleep(delay_s)
            process.restarts += 1
        times = f", {crashes} times in a row" if crashes > 1 else ""
        last = f", which ends with: {process.log.last_line}" if process.log.last_line else ""
        self._enter(process, "failed", f"{crash}{times}; its log is {process.log.path}{last}")

    async def _until_needs_are_met(self, process: Supervised) -> None:
        def unmet() -> list[str]:
            return [name for name in process.spec.after if self._all[name].state != "running"]

        if names := unmet():
            self._enter(process, "starting", f"waits for {', '.join(names)}")
            await self._until(lambda: not unmet())

    async def _run_once(self, process: Supervised) -> tuple[float, str]:
        """From its start to its end: for how long it was ready (seconds), and what ended it."""
        loop = asyncio.get_running_loop()
        spec = process.spec
        try:
            process.running = running = RunningProcess(spec.argv, process.env, process.cwd, process.log)
        except OSError as error:
            return 0.0, f"cannot be started ({error.strerror}: {error.filename or spec.argv[0]})"
        self._record(spec.name, running.pid)
        exited = asyncio.ensure_future(running.wait())
        ready = asyncio.ensure_future(until_ready(spec.ready, process.env, process.cwd))
        try:
            await asyncio.wait(
                (exited, ready), timeout=spec.ready_timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
            if exited.done():
                return 0.0, describe_exit(exited.result())
            if not ready.done():
                await running.stop(spec.stop_timeout_s)
                return 0.0, f"was not ready within {spec.ready_timeout_s:g} s"
            ready.result()
            self._enter(process, "running")
            began_s = loop.time()
            crash = describe_exit(await exited)
            return loop.time() - began_s, crash
        finally:
            exited.cancel()
            ready.cancel()
            if not running.alive:
                self._end_leftovers(spec.name)

    async def _stop(self, process: Supervised) -> None:
        """Stop it in order, with all that it started. It may have failed or been stopped before."""
        if process.task is not None:
            process.task.cancel()
            await asyncio.wait([process.task])
            process.task = None
        if process.running is not None and process.running.alive:
            self._tell(process.spec.name, "stopping")
            await process.running.stop(process.spec.stop_timeout_s)
        process.running = None
        self._end_leftovers(process.spec.name)
        process.log.close()
        if process.state != "stopped":
            self._enter(process, "stopped")

    def _end_leftovers(self, name: str) -> None:
        if pids := end_leftovers(self._files.directory, self._files.pids, name):
            self._tell(name, f"ended {len(pids)} process(es) that it left: {', '.join(map(str, pids))}")

    # --- all of them

    async def _stop_all(self) -> None:
        stops: dict[str, asyncio.Task[None]] = {}

        async def stop_after(process: Supervised, dependents: list[asyncio.Task[None]]) -> None:
            if dependents:
                await asyncio.wait(dependents)
            async with process.lock:
                await self._stop(process)

        for name, process in reversed(self._all.items()):
            dependents = [stop for other, stop in stops.items() if name in self._all[other].spec.after]
            stops[name] = asyncio.create_task(stop_after(process, dependents))
        if stops:
            await asyncio.gather(*stops.values())
        self._tell("", "stopped")

    async def status(self) -> StackStatus:
        """How everything stands; asks every process whether it is ready, at once, for at most 2 s."""
        processes = await asyncio.gather(*(process.status() for process in self._all.values()))
        return StackStatus(str(self._files.directory), os.getpid(), self._since, tuple(processes))

    # --- requests

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(reply: Reply) -> None:
            writer.write(msgspec.json.encode(reply) + b"\n")

        queue: asyncio.Queue[StackEvent] = asyncio.Queue()
        try:
            request = msgspec.json.decode(await reader.readline(), type=Request)
            if request.operation == "wait":
                for event in self._events:
                    send(Happened(event))
            self._listeners.add(queue)
            work = asyncio.create_task(self._perform(request))
            while not (work.done() and queue.empty()):
                following = asyncio.create_task(queue.get())
                await asyncio.wait((work, following), return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    send(Happened(following.result()))
                else:
                    following.cancel()
            error = work.exception()
            send(Refused(str(error)) if error is not None else Done(await self.status()))
            await writer.drain()
        except (msgspec.DecodeError, ConnectionError) as error:
            self._tell("", f"a request broke off: {error}")
        finally:
            self._listeners.discard(queue)
            writer.close()

    async def _perform(self, request: Request) -> None:
        if request.operation == "status":
            return
        if request.operation == "down":
            await asyncio.shield(self.drain())
            return
        if self._draining is not None:
            raise StackError("the stack is being stopped")
        if request.operation == "wait":
            await self._until_settled(list(self._all.values()))
            return
        process = self._all.get(request.name)
        if process is None:
            raise StackError(
                f"there is no process {request.name!r} in the stack: it has {', '.join(self._all)}"
            )
        if request.operation != "stop":
            for need in process.spec.after:
                if self._all[need].state in ("failed", "stopped"):
                    raise StackError(
                        f"{request.name} needs {need}, which is {self._all[need].state}: start it first"
                    )
        async with process.lock:
            if self._draining is not None:
                raise StackError("the stack is being stopped")
            if request.operation == "start" and process.state not in ("failed", "stopped"):
                pass  # it runs, or soon will: only wait for it
            elif request.operation == "stop":
                await self._stop(process)
            else:
                await self._stop(process)
                self._launch(process)
        if request.operation != "stop":
            await self._until_settled([process])

    async def _until_settled(self, processes: list[Supervised]) -> None:
        """Return when all are running; raise StackError when one has failed or was stopped."""

        def settled() -> bool:
            states = {process.state for process in processes}
            return bool(states & {"failed", "stopped"}) or states <= {"running"}

        await self._until(settled)
        for process in processes:
            if process.state == "failed":
                raise StackError(f"{process.spec.name} failed: it {process.reason}")
            if process.state == "stopped":
                raise StackError(f"{process.spec.name} was stopped")

    # --- what happened

    def _enter(self, process: Supervised, state: ProcessState, reason: str = "") -> None:
        process.state, process.since, process.reason = state, datetime.now(UTC), reason
        self._tell(process.spec.name, f"{state}: {reason}" if reason else state)

    def _tell(self, name: str, text: str) -> None:
        event = StackEvent(datetime.now(UTC), name, text)
        self._events = [*self._events[-_HISTORY:], event]
        self._log.write(
            f"{event.time.isoformat(timespec='milliseconds')} {name or 'stack'} {text}\n".encode()
        )
        for queue in self._listeners:
            queue.put_nowait(event)
        self._pulse()

    def _pulse(self) -> None:
        waited, self._changed = self._changed, asyncio.Event()
        waited.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _record(self, name: str, pid: int) -> None:
        started_s = start_time_s(pid)
        if started_s is None:
            return
        self._pids[name] = (pid, started_s)
        try:
            write_whole(self._files.pids, msgspec.json.encode(self._pids))
        except OSError as error:
            self._tell(name, f"its pid could not be recorded: {error.strerror}")


def main(arguments: list[str] | None = None) -> int:
    """What ``stack.up`` runs: detach, hold the lock, keep the stack running; returns the exit status."""
    parser = argparse.ArgumentParser(prog="infra.local.supervisor")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--lock-fd", type=int, required=True, help="open and locked by the starter")
    parser.add_argument("--tied", action="store_true", help="end with the standard input")
    chosen = parser.parse_args(arguments)
    if os.fork():
        os._exit(0)  # the starter waits for this one; the other becomes nobody's child and nobody's zombie
    os.set_inheritable(chosen.lock_fd, False)
    os.ftruncate(chosen.lock_fd, 0)
    os.pwrite(chosen.lock_fd, f"{os.getpid()}\n".encode(), 0)
    files = StackFiles(chosen.directory)
    stack = msgspec.json.decode(files.spec.read_bytes(), type=StackSpec)
    asyncio.run(Supervisor(stack).serve(listen(files), sys.stdin.fileno() if chosen.tied else None))
    return 0


if __name__ == "__main__":
    sys.exit(main())
