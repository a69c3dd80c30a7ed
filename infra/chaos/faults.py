"""Each thing that can go wrong, done for real, and the seconds until what was hit is well again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

import psutil

from infra.chaos import plan
from infra.chaos.body import BACK_WITHIN_S, Body
from infra.chaos.disks import FullDisks, SmallDisks
from infra.chaos.probe import Probe
from infra.chaos.proxy import Proxy

#: Beyond the session timeout, so that a stopped worker has lost its partitions.
_BEYOND_SESSION_S: Final = 3.0
_STOPPED_S: Final = 4.0
_SLOW_S: Final = 6.0
_CHUNK_DELAY_S: Final = 0.4
_REFUSING_S: Final = 4.0
_FULL_S: Final = 6.0
_REFILL_S: Final = 0.5


class Faults:
    """Does what a plan names. Faults may overlap."""

    def __init__(self, body: Body, proxy: Proxy, disks: FullDisks, probe: Probe) -> None:
        self._body = body
        self._probe = probe
        self._proxy = proxy
        self._disks = disks
        #: One change of the second worker at a time.
        self._second = asyncio.Lock()
        self._kinds: Final[dict[str, Callable[[], Awaitable[float]]]] = {
            plan.KILL_SUPERVISOR: self._kill_supervisor,
            plan.KILL_SECOND: self._kill_second,
            plan.PAUSE_WORKER: self._pause_worker,
            plan.PAUSE_WORKER_MOVED: self._pause_worker_moved,
            plan.STOP_STORE: self._stop_store,
            plan.SLOW_STORE: self._slow_store,
            plan.REFUSING_STORE: self._refusing_store,
            plan.FULL_STORE: self._full_store,
            plan.FULL_LOG: self._full_log,
            plan.MOVE_PARTITIONS: self._move_partitions,
        }

    @property
    def others(self) -> tuple[str, ...]:
        """What can go wrong here beside kills. Without small disks the engine's cannot be filled.

        Bounded files would do for Kafka only: chDB does not notice a write that fails, and protects itself by
        looking at the room on its disk.
        """
        return tuple(
            kind
            for kind in self._kinds
            if not kind.startswith("kill ")
            and (isinstance(self._disks, SmallDisks) or kind != plan.FULL_STORE)
        )

    @property
    def full_disk(self) -> str:
        """How a disk is made full."""
        return self._disks.how

    async def strike(self, kind: str) -> float:
        """Do it; the seconds until all is well again.

        Of a kill: from the blow until what was hit is ready. Of what lasts (a pause, a slow store, a full
        disk): from its end until an event that is sent then is visible.
        """
        known = self._kinds.get(kind)
        return await (known() if known is not None else self._kill(kind.removeprefix("kill ")))

    async def _kill(self, name: str) -> float:
        pid = await self._body.signal(name, signal.SIGKILL)
        began = time.monotonic()
        await self._body.until_back(name, pid)
        return time.monotonic() - began

    async def _kill_supervisor(self) -> float:
        pid = await self._body.signal("supervisor", signal.SIGKILL)
        began = time.monotonic()
        await self._body.until_ready(None, lambda: not psutil.pid_exists(pid), "the end of the supervisor")
        await self._body.up()
        return time.monotonic() - began

    async def _kill_second(self) -> float:
        async with self._second:
            if not self._body.has_second:
                await self._body.start_second()
            await self._body.kill_second()
            began = time.monotonic()
            await self._body.start_second()
            return time.monotonic() - began

    async def _move_partitions(self) -> float:
        """A second worker comes, or goes."""
        async with self._second:
            await (self._body.stop_second() if self._body.has_second else self._body.start_second())
        return await self._well_again()

    async def _pause_worker(self) -> float:
        pid = await self._body.signal("streams", signal.SIGSTOP)
        await asyncio.sleep(self._body.scene.session_timeout_s + _BEYOND_SESSION_S)
        return await self._go_on("streams", pid)

    async def _pause_worker_moved(self) -> float:
        async with self._second:
            if not self._body.has_second:
                await self._body.start_second()
        return await self._pause_worker()

    async def _stop_store(self) -> float:
        pid = await self._body.signal("clickhouse", signal.SIGSTOP)
        await asyncio.sleep(_STOPPED_S)
        return await self._go_on("clickhouse", pid)

    async def _go_on(self, name: str, pid: int) -> float:
        with contextlib.suppress(ProcessLookupError):  # it may have been killed meanwhile
            os.kill(pid, signal.SIGCONT)
        return await self._well_again(name)

    async def _slow_store(self) -> float:
        self._proxy.delay_s = _CHUNK_DELAY_S
        await asyncio.sleep(_SLOW_S)
        self._proxy.delay_s = 0.0
        return await self._well_again()

    async def _refusing_store(self) -> float:
        await self._proxy.refuse()
        await asyncio.sleep(_REFUSING_S)
        await self._proxy.listen()
        return await self._well_again()

    async def _full_store(self) -> float:
        return await self._full("clickhouse")

    async def _full_log(self) -> float:
        return await self._full("kafka")

    async def _full(self, name: str) -> float:
        until = time.monotonic() + _FULL_S
        while time.monotonic() < until:
            # again: a merge may have made room, and another process may write now
            await asyncio.to_thread(self._disks.fill, name)
            await asyncio.sleep(_REFILL_S)
        self._disks.free(name)
        return await self._well_again(name)

    async def _well_again(self, *names: str) -> float:
        """Seconds until these processes are ready, and what is sent then is visible."""
        began = time.monotonic()
        for name in names:
            await self._body.until_back(name, None)
        await self._probe.until_visible(BACK_WITHIN_S)
        return time.monotonic() - began
