"""Children of the learner: an answer, a failure, a bound, and never an orphan."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import psutil
import pytest
import uvloop

from learners.children import Bounds, ChildFailed, run_child
from tests.unit.child_tasks import Number, Text

pytestmark = pytest.mark.service
TASKS = "tests.unit.child_tasks"
BOUNDS = Bounds(timeout_s=30, memory_bytes=1 << 30)


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    # children start with -P: the checkout must be importable by name
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


async def test_a_child_answers_and_its_output_is_kept(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    assert await run_child(f"{TASKS}:double", Number(21), Number, BOUNDS, log) == Number(42)
    assert log.read_text() == "doubling\n"


async def test_a_log_that_has_grown_is_put_aside_before_the_next_child(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    for size_bytes, kept in ((10_000_000, False), (10_000_001, True)):
        with log.open("wb") as file:
            file.truncate(size_bytes)
        assert await run_child(f"{TASKS}:double", Number(21), Number, BOUNDS, log) == Number(42)
        assert (tmp_path / "child.log.1").exists() is kept
    assert log.read_text() == "doubling\n"
    assert (tmp_path / "child.log.1").stat().st_size == 10_000_001


async def test_requests_and_answers_of_any_length_pass_and_output_stays_apart(tmp_path: Path) -> None:
    log = tmp_path / "child.log"
    text = Text("a line that\n would end it ü" * 200_000)
    assert await run_child(f"{TASKS}:echo", text, Text, BOUNDS, log) == text
    assert "from a process of its own\n" in log.read_text()


async def test_a_child_that_ends_without_an_answer_failed(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match=r"ended with status 0: it printed nothing"):
        await run_child(f"{TASKS}:vanish", Text("x" * 1_000_000), Text, BOUNDS, tmp_path / "child.log")


def test_children_answer_and_fail_in_the_loop_of_the_processes(tmp_path: Path) -> None:
    log, text = tmp_path / "child.log", Text("long" * 300_000)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(run_child(f"{TASKS}:echo", text, Text, BOUNDS, log)) == text
        with pytest.raises(ChildFailed, match="ended with status 0"):
            runner.run(run_child(f"{TASKS}:vanish", text, Text, BOUNDS, log))


async def test_threads_of_a_child_wait_passively(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    log = tmp_path / "child.log"
    assert await run_child(f"{TASKS}:wait_passively", Number(0), Number, BOUNDS, log) == Number(1)


async def test_a_failure_is_told_with_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="ValueError: no luck with 7"):
        await run_child(f"{TASKS}:fail", Number(7), Number, BOUNDS, tmp_path / "child.log")


async def test_a_child_that_runs_too_long_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid_file = tmp_path / "pid"
    monkeypatch.setenv("LINGER_PID", str(pid_file))
    with pytest.raises(ChildFailed, match=r"longer than its bound of 3 s"):
        await run_child(
            f"{TASKS}:linger", Number(1), Number, Bounds(timeout_s=3, memory_bytes=1 << 30), tmp_path / "log"
        )
    assert not psutil.pid_exists(int(pid_file.read_text()))


async def test_a_child_that_takes_too_much_memory_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="bytes of memory; the bound is"):
        await run_child(
            f"{TASKS}:hoard",
            Number(300),
            Number,
            Bounds(timeout_s=30, memory_bytes=200 << 20),
            tmp_path / "log",
        )


async def test_a_killed_parent_leaves_no_child_and_no_file(tmp_path: Path) -> None:
    pid_file, log, temporary = tmp_path / "pid", tmp_path / "place" / "log", tmp_path / "temporary"
    temporary.mkdir()
    program = (
        "import asyncio, pathlib; from learners.children import *; from tests.unit.child_tasks import Number;"
        f"asyncio.run(run_child('{TASKS}:linger', Number(1), Number,"
        f" Bounds(timeout_s=60, memory_bytes=1 << 30), pathlib.Path({str(log)!r})))"
    )
    environment = {
        "LINGER_PID": str(pid_file),
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "TMPDIR": str(temporary),
        "PATH": "",
    }
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, cwd=temporary
    )
    async with asyncio.timeout(30):
        while not (pid_file.exists() and pid_file.read_text()):
            await asyncio.sleep(0.05)
        child = int(pid_file.read_text())
        parent.kill()
        await parent.wait()
        with contextlib.suppress(psutil.NoSuchProcess):
            while psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
                await asyncio.sleep(0.05)
    assert list(temporary.iterdir()) == []
    assert list(log.parent.iterdir()) == [log]
