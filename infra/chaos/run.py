"""One run: start, load, rounds of faults, calm, count, rebuild, stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct
from rich.console import Console
from rich.text import Text

from infra.chaos.body import Body
from infra.chaos.client import ClientPlan
from infra.chaos.compare import EPISODES_SQL, EVENTS_SQL, REJECTED_SQL, Counts, Tables, compare
from infra.chaos.disks import BoundedFiles, SmallDisks
from infra.chaos.faults import Faults
from infra.chaos.ledger import Truth
from infra.chaos.place import Place
from infra.chaos.plan import Round, plan_rounds
from infra.chaos.probe import SOURCE, Probe
from infra.chaos.proxy import Proxy
from infra.chaos.report import Report, Struck, installed_versions, over_target
from infra.chaos.scene import ChaosError, Scene
from infra.chaos.store import Store

#: What a small disk holds: the log and the tables of a long run, and their merges.
_DISK_BYTES: Final = 400 * 1024 * 1024
_CLIENT_END_S: Final = 150.0
_CAUGHT_UP_S: Final = 180.0
_REBUILD_S: Final = 900.0
_FIRST_LOAD_S: Final = 2.0

Tell = Callable[[str], None]


class ChaosPlan(Struct, frozen=True, kw_only=True):
    """What is asked for."""

    kills: int
    seed: int
    #: No round begins later than this, seconds; None: all rounds are done.
    limit_s: float | None = None
    clients: int = 3
    #: Of all clients together.
    events_per_s: float = 150.0
    #: Faults that are no kills.
    misfortunes: bool = True
    #: False: as on a system where no small disk can be mounted.
    small_disks: bool = True


async def run_chaos(asked: ChaosPlan, scene: Scene, place: Place, console: Console) -> Report:
    """Break the scene's stack, then count. Raises ChaosError, StackError: something did not come back."""
    began = time.monotonic()

    def tell(text: str) -> None:
        console.print(Text.assemble((f"{time.monotonic() - began:6.1f} s  ", "dim"), text))

    directory = Path(scene.stack.directory)
    disks = None
    if asked.small_disks:
        disks = SmallDisks.mount({name: directory / name for name in ("clickhouse", "kafka")}, _DISK_BYTES)
    if disks is not None:
        scene = on_disks(scene, disks)
    try:
        async with Proxy(scene.proxy_port, scene.engine_port) as proxy:
            body = Body(scene, tell, place.clients / "second_worker.log")
            probe = Probe(scene, place.clients / "probe.jsonl")
            try:
                return await _Run(asked, scene, place, body, probe, tell, began).play(
                    Faults(body, proxy, disks or BoundedFiles(body.pid), probe)
                )
            finally:
                await body.down()
    finally:
        if disks is not None:
            disks.close()


def on_disks(scene: Scene, disks: SmallDisks) -> Scene:
    """The scene with the log and the tables on small disks."""
    directory = Path(scene.stack.directory)
    processes = tuple(
        msgspec.structs.replace(one, argv=disks.wrap(one, directory))
        if one.name in ("clickhouse", "kafka")
        else one
        for one in scene.stack.processes
    )
    return msgspec.structs.replace(scene, stack=msgspec.structs.replace(scene.stack, processes=processes))


class _Run:
    def __init__(
        self, asked: ChaosPlan, scene: Scene, place: Place, body: Body, probe: Probe, tell: Tell, began: float
    ) -> None:
        self._probe = probe
        self._asked = asked
        self._scene = scene
        self._place = place
        self._body = body
        self._tell = tell
        self._began = began
        self._struck: list[Struck] = []
        self._orphans = 0

    async def play(self, faults: Faults) -> Report:
        asked = self._asked
        self._tell("starting a stack of its own")
        await self._body.up()
        async with self._clients() as truth:
            load_began = time.monotonic()
            await asyncio.sleep(_FIRST_LOAD_S)
            others = faults.others if asked.misfortunes else ()
            for one in plan_rounds(asked.kills, asked.seed, self._scene.names, others):
                if asked.limit_s is not None and time.monotonic() - load_began > asked.limit_s:
                    self._tell("the time is over")
                    break
                await self._round(one, faults, load_began)
            load_s = time.monotonic() - load_began
            self._tell("calm: clients finish, the worker catches up")
        await self._body.stop_second()
        await self._caught_up()
        counts = await asyncio.to_thread(self._count, truth)
        identical = await self._rebuild()
        await self._body.down()
        left = self._body.orphans()
        for process in left:
            with contextlib.suppress(Exception):
                process.kill()
        kills = sum(struck.kind.startswith("kill ") for struck in self._struck)
        orphans = self._orphans + len(left)
        return Report(
            passed=counts.clean and identical and not orphans and kills > 0,
            seed=asked.seed,
            kills=kills,
            faults=tuple(self._struck),
            events=counts,
            rebuild_identical=identical,
            orphan_processes=orphans,
            full_disk=faults.full_disk,
            slow_and_refusing_store="TCP proxy in front of the engine; SIGSTOP of the engine",
            over_target=over_target(self._struck),
            clients=asked.clients,
            load_s=round(load_s, 1),
            duration_s=round(time.monotonic() - self._began, 1),
            restart_delay_s=self._scene.stack.restart.first_delay_s,
            versions=installed_versions(),
        )

    # --- faults

    async def _round(self, one: Round, faults: Faults, load_began: float) -> None:
        alone = len(one.faults) == 1

        async def strike(kind: str, after_s: float) -> None:
            await asyncio.sleep(after_s)
            at_s = time.monotonic() - load_began
            if not alone:
                self._tell(f"{kind} …")
            recovery_s = await faults.strike(kind)
            self._tell(f"{kind}: back in {recovery_s:.1f} s")
            self._struck.append(
                Struck(kind=kind, at_s=round(at_s, 2), recovery_s=round(recovery_s, 2), alone=alone)
            )

        try:
            async with asyncio.TaskGroup() as group:
                for fault in one.faults:
                    group.create_task(strike(fault.kind, fault.after_s))
        except* ChaosError as broken:
            raise broken.exceptions[0] from None
        await self._body.until_healthy()
        for orphan in self._body.orphans():
            self._orphans += 1
            self._tell(f"left behind: pid {orphan.pid}")
        await asyncio.sleep(one.pause_s)

    # --- load

    @contextlib.asynccontextmanager
    async def _clients(self) -> AsyncIterator[Truth]:
        """Load for the length of the block; what the clients know is complete after it."""
        asked, truth = self._asked, Truth()
        plans = [
            ClientPlan(
                url=self._scene.api_url,
                key=self._scene.api_key,
                source=f"urn:chaos:{number}",
                seed=asked.seed * 1000 + number,
                ledger=str(self._place.clients / f"{number}.jsonl"),
                events_per_s=asked.events_per_s / asked.clients,
            )
            for number in range(asked.clients)
        ]
        child = (sys.executable, "-P", "-m", "infra.local.child", str(os.getpid()), "--")
        running: list[subprocess.Popen[bytes]] = []
        with (self._place.clients / "clients.log").open("ab") as log:
            for one in plans:
                command = (
                    sys.executable,
                    "-P",
                    "-m",
                    "infra.chaos.client",
                    msgspec.json.encode(one).decode(),
                )
                running.append(
                    subprocess.Popen([*child, *command], stdout=log, stderr=log)  # noqa: ASYNC220
                )
        try:
            yield truth
            for client in running:
                if client.poll() is not None:
                    raise ChaosError(f"a client ended by itself: see {self._place.clients / 'clients.log'}")
                client.terminate()
            for client in running:
                await asyncio.to_thread(client.wait, _CLIENT_END_S)
        except subprocess.TimeoutExpired as error:
            raise ChaosError(f"a client did not end within {_CLIENT_END_S:g} s") from error
        finally:
            for client in running:
                client.kill()
                client.wait()
        for one in plans:
            truth.read(Path(one.ledger), one.source)
        truth.read(self._probe.ledger, SOURCE)

    # --- counting

    async def _caught_up(self) -> None:
        """Return when the worker has committed everything."""
        deadline = time.monotonic() + _CAUGHT_UP_S
        while (lag := await self._lag()) != 0:
            if time.monotonic() > deadline:
                raise ChaosError(
                    f"after {_CAUGHT_UP_S:g} s of calm {lag} records are not committed: "
                    f"see {self._body.files.logs}"
                )
            await asyncio.sleep(0.5)

    async def _lag(self) -> int | None:
        text, _ = await self._ratchet("status", "--json")
        found = msgspec.json.decode(text or b"{}").get("lag_events")
        return None if found is None else int(found)

    def _count(self, truth: Truth) -> Counts:
        store = Store(self._scene)
        return compare(
            truth,
            Tables(
                events=list(store.rows(EVENTS_SQL)),
                rejected=list(store.rows(REJECTED_SQL)),
                episodes=list(store.rows(EPISODES_SQL)),
            ),
        )

    async def _rebuild(self) -> bool:
        """Whether a clean rebuild gives the same tables, by its own hashes and by ours."""
        self._tell("rebuilding from the log")
        store = Store(self._scene)
        before = await asyncio.to_thread(store.digests)
        output, status = await self._ratchet("rebuild")
        after = await asyncio.to_thread(store.digests)
        for view in sorted(before):
            if before[view] != after[view]:
                self._tell(f"{view} differs: {before[view]} rows and hash, rebuilt {after[view]}")
        if status != 0:
            self._tell(f"the rebuild did not swap: {output.decode(errors='replace').strip()[-800:]}")
        return status == 0 and before == after

    async def _ratchet(self, *arguments: str) -> tuple[bytes, int]:
        """What a command printed, and its exit status."""
        process = await asyncio.create_subprocess_exec(
            *self._scene.command,
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE if arguments[0] == "status" else asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(_REBUILD_S):
            output, _ = await process.communicate()
        return output, process.returncode or 0
