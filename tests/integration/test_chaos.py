"""Chaos for real, in small: its instruments, and one short run of the command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from api.cli.chaos import make_scene
from infra.chaos import plan
from infra.chaos.body import Body
from infra.chaos.disks import BoundedFiles, SmallDisks
from infra.chaos.faults import Faults
from infra.chaos.place import Place
from infra.chaos.probe import Probe
from infra.chaos.proxy import Proxy
from infra.local.spec import ProcessSpec
from tests.live_services import free_ports

pytestmark = [pytest.mark.service, pytest.mark.timeout(400)]


async def echo(port: int) -> bytes:
    """What comes back through this port; nothing if the connection breaks."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return b"refused"
    writer.write(b"hello")
    writer.write_eof()
    try:
        return await reader.read()
    except ConnectionError:
        return b"broken"
    finally:
        writer.close()


async def test_the_proxy_passes_delays_and_refuses() -> None:
    port, target = free_ports(2)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", target)
    async with Proxy(port, target) as proxy:
        assert await echo(port) == b"hello"
        proxy.delay_s = 0.2
        began = time.monotonic()
        assert await echo(port) == b"hello"
        assert time.monotonic() - began >= 0.4
        slow = asyncio.create_task(echo(port))
        await asyncio.sleep(0.1)
        await proxy.refuse()
        assert await slow != b"hello"
        assert await echo(port) == b"refused"
        proxy.delay_s = 0.0
        await proxy.listen()
        assert await echo(port) == b"hello"
        server.close()
        await server.wait_closed()
        assert await echo(port) in (b"", b"broken")


async def test_whoever_waits_for_a_store_that_was_killed_sees_it_at_once() -> None:
    port, target = free_ports(2)

    async def die(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(5)
        writer.transport.abort()

    server = await asyncio.start_server(die, "127.0.0.1", target)
    async with Proxy(port, target):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
        writer.close()
    server.close()


def test_a_small_disk_fills_up_and_is_freed(tmp_path: Path) -> None:
    """Where the system allows it; elsewhere `mount` says so, and chaos bounds the size of files instead."""
    directory = tmp_path / "a disk"
    disks = SmallDisks.mount({"engine": directory}, 4 * 1024 * 1024)
    if disks is None:
        assert not os.path.ismount(directory)
        return
    try:
        write = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(bytes(int(sys.argv[2])))"
        program = (sys.executable, "-P", "-c", write, str(directory / "file"))

        def write_bytes(number: int) -> subprocess.CompletedProcess[bytes]:
            process = ProcessSpec(name="engine", argv=(*program, str(number)))
            return subprocess.run(disks.wrap(process, tmp_path), check=False, capture_output=True)

        assert write_bytes(100_000).returncode == 0
        assert not (directory / "file").exists(), "the disk is seen by its own processes only"
        disks.fill("engine")
        assert b"No space left" in write_bytes(200_000).stderr
        disks.free("engine")
        assert write_bytes(200_000).returncode == 0
    finally:
        disks.close()


def test_bounded_files_take_no_more_from_the_process_that_lives_now(tmp_path: Path) -> None:
    """The next best where no small disk can be mounted."""
    program = (
        "import sys\n"
        "for path in map(str.strip, sys.stdin):\n"
        "    try:\n"
        "        print(open(path, 'ab', buffering=0).write(bytes(3000)), flush=True)\n"
        "    except OSError as error:\n"
        "        print(error.strerror, flush=True)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-P", "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None

        def write() -> str:
            print(tmp_path / "file", file=stdin, flush=True)
            return stdout.readline().strip()

        files = BoundedFiles({"kafka": process.pid}.get)
        try:
            assert write() == "3000"
            files.fill("kafka")
            assert (write(), write()) == ("1096", "File too large")
            files.fill("kafka")
            files.free("kafka")
            assert write() == "3000"
            files.fill("another")  # it does not live now
        finally:
            process.kill()
    files.fill("kafka")  # it has just ended
    files.free("kafka")


def test_without_small_disks_only_kafka_runs_out_of_room(tmp_path: Path) -> None:
    place = Place(tmp_path / "scratch")
    with place.taken():
        scene = make_scene(place, learn=False)
        body = Body(scene, print, place.clients / "second_worker.log")
        proxy = Proxy(scene.proxy_port, scene.engine_port)
        faults = Faults(body, proxy, BoundedFiles(body.pid), Probe(scene, place.clients / "probe.jsonl"))
    assert plan.FULL_LOG in faults.others
    assert plan.FULL_STORE not in faults.others
    assert faults.full_disk == "RLIMIT_FSIZE on Kafka"


def test_a_short_run_of_the_command_finds_nothing_lost(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    command = [sys.executable, "-P", "-m", "api.cli", "chaos", "--no-learn", "--json", str(report)]
    done = subprocess.run(
        [*command, "--kills", "4", "--seed", "3", "--clients", "2", "--scratch", str(tmp_path / "scratch")],
        # a stack of the caller's own must not be found
        env={**os.environ, "RATCHET_CLICKHOUSE__URL": "http://127.0.0.1:9", "RATCHET_KEY": "nobody's"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(report.read_text())
    assert found["kills"] >= 4
    assert {"kind", "recovery_s"} <= found["faults"][0].keys()
    counts = found["events"]
    assert counts["acknowledged"] > 200
    assert (counts["lost"], counts["doubled"], counts["never_sent"], counts["displaced"]) == (0, 0, 0, 0)
    assert found["rebuild_identical"]
    assert found["orphan_processes"] == 0
