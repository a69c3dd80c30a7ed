"""The engine as its supervisor sees it: it starts or says why not, ends in order, and survives kill -9."""

from __future__ import annotations

import asyncio
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError

from infra.chaos.disks import SmallDisks
from infra.clickhouse.engine import EngineSettings
from infra.clickhouse.engine.inserts import Target, find_target
from infra.clickhouse.engine.room import end_if_full
from infra.local.spec import ProcessSpec
from tests.engine_process import EngineProcess, settings_for, start_command
from tests.live_services import free_ports, wait_for, wait_until

pytestmark = pytest.mark.service

#: Batches that another client has seen before the engine is killed.
SEEN_BATCHES = 20


def test_a_second_engine_says_in_one_sentence_why_it_cannot_start(tmp_path: Path) -> None:
    with EngineProcess(settings_for(tmp_path / "engine")) as first:
        for settings, sentence in (
            (
                msgspec.structs.replace(first.settings, port=free_ports(1)[0]),
                f"in use by another process (process {first.process.pid})",
            ),
            (settings_for(tmp_path / "b", port=first.settings.port), "Address already in use"),
            (settings_for(tmp_path / "this & that"), "its path contains ? or &"),
        ):
            ended = subprocess.run(
                start_command(settings), capture_output=True, text=True, timeout=60, check=False
            )
            assert ended.returncode == 1
            assert sentence in ended.stderr
            assert ended.stderr.strip().count("\n") == 0


async def test_sigterm_lets_running_statements_end(tmp_path: Path) -> None:
    with EngineProcess(settings_for(tmp_path / "engine")) as process:
        async with httpx.AsyncClient(auth=("ratchet", "writer's"), timeout=60) as http:
            slow = asyncio.create_task(http.post(process.url, content="SELECT sleep(2)"))
            await wait_until("its start", lambda: process.running() == 1)
            process.process.terminate()
            assert (await slow).text == "0\n"
        assert await asyncio.to_thread(process.process.wait, 30) == 0


def test_sigterm_ends_what_does_not_end(tmp_path: Path) -> None:
    with (
        EngineProcess(settings_for(tmp_path / "engine", drain_s=0.5)) as process,
        httpx.Client(auth=("ratchet", "writer's"), timeout=60) as http,
    ):
        request = http.build_request("POST", process.url, content="SELECT number FROM system.numbers")
        endless = http.send(request, stream=True)
        began_s = time.monotonic()
        assert process.stop() == 0
        assert time.monotonic() - began_s < 15
        endless.close()


def kill_once_seen(process: EngineProcess, first: int) -> None:
    """SIGKILL as soon as enough batches from `first` on can be read: their writer is at a later one."""
    count = f"SELECT uniqExact(batch) FROM ratchet_store.log WHERE batch >= {first}"
    try:
        wait_for("batches that are seen", lambda: int(process.ask(count).text) >= SEEN_BATCHES)
    finally:
        process.process.kill()


def insert_until_killed(process: EngineProcess, batch: int, acknowledged: list[int]) -> int:
    """Insert batches of 500 rows, from number `batch` on; the first number that was not tried."""
    client = process.client()
    try:
        while True:
            rows = [np.full(500, batch, np.uint32), np.arange(500, dtype=np.uint32)]
            client.insert("log", rows, ["batch", "n"], database="ratchet_store", column_oriented=True)
            acknowledged.append(batch)
            batch += 1
    except (OperationalError, DatabaseError, OSError):
        return batch + 1
    finally:
        client.close()


def test_kill_9_loses_no_acknowledged_batch(tmp_path: Path) -> None:
    """A writer sends batches; the engine dies in the middle of one, twice, and opens again."""
    acknowledged: list[int] = []
    batch = 0
    with EngineProcess(settings_for(tmp_path / "engine")) as process, ThreadPoolExecutor(1) as background:
        process.ask("CREATE DATABASE ratchet_store")
        process.ask(
            "CREATE TABLE ratchet_store.log (batch UInt32, n UInt32)"
            " ENGINE = ReplacingMergeTree ORDER BY (batch, n)"
        )
        for _ in range(2):
            killing = background.submit(kill_once_seen, process, batch)
            batch = insert_until_killed(process, batch, acknowledged)
            killing.result()
            process.process.wait(10)
            assert process.process.returncode == -signal.SIGKILL
            process.start()
        stored = process.ask(
            "SELECT batch FROM ratchet_store.log FINAL GROUP BY batch HAVING count() = 500 ORDER BY batch"
        )
        whole = {int(line) for line in stored.text.split()}
        # of the batches seen, at most the last of each round was not acknowledged yet
        assert len(acknowledged) >= 2 * (SEEN_BATCHES - 1)
        assert whole >= set(acknowledged)
        assert process.stop() == 0


def test_what_the_storage_refuses_is_never_acknowledged(tmp_path: Path) -> None:
    with EngineProcess(settings_for(tmp_path / "engine")) as engine:
        engine.ask(
            "CREATE TABLE t (a Int8, b String DEFAULT 'x', CONSTRAINT s CHECK a < 9) "
            "ENGINE MergeTree ORDER BY a"
        )
        violated = engine.ask("INSERT INTO t FORMAT TabSeparated\n3\tfits\n10\tdoes not\n")
        assert violated.headers["x-clickhouse-exception-code"] == "469", violated.text
        assert engine.ask("SELECT count() FROM t").text == "0\n"
        assert engine.ask('INSERT INTO t FORMAT JSONEachRow\n{"a": 1}\n').status_code == 200
        assert engine.ask("SELECT * FROM t").text == "1\tx\n"


def test_nothing_is_inserted_on_a_disk_that_is_nearly_full(tmp_path: Path) -> None:
    with EngineProcess(settings_for(tmp_path / "engine", min_free_bytes=1 << 60)) as engine:
        engine.ask("CREATE TABLE t (a Int8) ENGINE MergeTree ORDER BY a")
        refused = engine.ask("INSERT INTO t FORMAT TabSeparated\n3\n")
        assert refused.headers["x-clickhouse-exception-code"] == "243", refused.text
        assert "until there is room" in refused.text


def test_a_full_disk_loses_no_acknowledged_row(tmp_path: Path) -> None:
    """A disk that others fill while rows are inserted, on a real small one where the system allows it."""
    directory = tmp_path / "engine"
    disks = SmallDisks.mount({"engine": directory}, 200 << 20)
    settings = settings_for(directory, min_free_bytes=16 << 20)
    acknowledged = 0

    def start() -> subprocess.Popen[bytes]:
        argv = tuple(start_command(settings))
        wrapped = disks.wrap(ProcessSpec(name="engine", argv=argv), tmp_path) if disks else argv
        process = subprocess.Popen(wrapped, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the engine's start", lambda: process.poll() is not None or page() == 200)
        return process

    def page() -> int:
        try:
            return httpx.get(f"http://127.0.0.1:{settings.port}/readyz").status_code
        except httpx.TransportError:
            return 0

    def ask(sql: str) -> httpx.Response:
        account = (settings.writer_user, settings.writer_password)
        return httpx.post(f"http://127.0.0.1:{settings.port}", content=sql, auth=account, timeout=60)

    process = start()
    try:
        ask("CREATE TABLE t (a UInt64, b String) ENGINE ReplacingMergeTree ORDER BY a")
        filler = threading.Timer(0.7, disks.fill, ("engine",)) if disks else threading.Timer(0, int)
        filler.start()
        number = 0
        for number in range(60):
            rows = "".join(f"{number * 1000 + row}\t{secrets.token_hex(400)}\n" for row in range(1000))
            try:
                answer = ask(f"INSERT INTO t FORMAT TabSeparated\n{rows}")
                acknowledged += 1000 * (answer.status_code == 200)
                assert answer.status_code == 200 or "243" in answer.text, answer.text
            except httpx.TransportError:
                break  # it ended rather than to answer for this one
        filler.join()
        if disks:
            disks.free("engine")
        process.kill()
        process.wait(30)
        process = start()
        count, length = ask("SELECT uniqExact(a), sum(length(b)) FROM t FINAL").text.split()
        assert int(count) >= acknowledged > 0
        assert int(length) == 800 * int(count)
    finally:
        process.kill()
        process.wait(30)
        if disks:
            disks.close()


def test_a_disk_that_ran_full_ends_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    ended: list[int] = []
    monkeypatch.setattr("infra.clickhouse.engine.room.os._exit", ended.append)
    end_if_full(tmp_path)
    assert ended == []
    monkeypatch.setattr("infra.clickhouse.engine.room.FULL_BYTES", 1 << 60)
    end_if_full(tmp_path)
    assert ended == [74]


@pytest.mark.parametrize(
    ("head", "target"),
    [
        ("INSERT INTO t", Target("t", "", "")),
        ('-- why\ninsert into table `my db`."a t" (a, `b (c)`)', Target('`my db`."a t"', "(a, `b (c)`)", "")),
        ("INSERT INTO d.t (* EXCEPT(a)) SETTINGS x = 1 ", Target("d.t", "(* EXCEPT(a))", "SETTINGS x = 1 ")),
        ("INSERT INTO FUNCTION file('x', CSV)", None),
        ("INSERT INTO TABLE FUNCTION null('a Int8')", None),
    ],
)
def test_the_table_of_an_insert(head: str, target: Target | None) -> None:
    assert find_target(head) == target


def test_settings_can_be_loaded_without_the_engine() -> None:
    code = "import sys, infra.clickhouse.engine; sys.exit(str({'chdb', 'pandas'} & set(sys.modules) or ''))"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)
    assert (loaded.stdout, loaded.stderr.strip()) == ("", "")


def test_wrong_settings_say_so() -> None:
    with pytest.raises(ValueError, match="two names"):
        EngineSettings(path="x", writer_user="a", analyst_user="a", writer_password="w", analyst_password="a")
    with pytest.raises(ValueError, match="writer_password is empty"):
        EngineSettings(path="x", writer_password="", analyst_password="a")
    with pytest.raises(ValueError, match="max_analyst_queries"):
        EngineSettings(path="x", writer_password="w", analyst_password="a", max_queries=0)
    assert "secret" not in repr(
        EngineSettings(path="x", writer_password="secret", analyst_password="secret2")
    )
