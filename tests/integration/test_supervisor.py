"""Stacks of real processes: order, crashes, kill -9, neighbours. Directories have a space in their name."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar, cast

import psutil
import pytest
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from infra.local.control import ProcessStatus
from infra.local.spec import (
    CommandReady,
    HttpReady,
    ProcessSpec,
    RestartPolicy,
    StackError,
    StackFiles,
    StackSpec,
    TcpReady,
)
from infra.local.stack import down, restart, start, status, stop, up
from infra.local.tcp_ports import allocate_ports

pytestmark = pytest.mark.service

T = TypeVar("T")

#: A service: NAME PORT JOURNAL. Notes in the journal when it starts, is ready and was told to stop.
SERVICE = """
import http.server, os, signal, sys
name, port, journal = sys.argv[1], int(sys.argv[2]), sys.argv[3]
def note(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what}\\n")
def end(*_):
    note("told to stop")
    os._exit(0)
class Answer(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Answer.asked += 1
        if Answer.asked == 3:
            note("ready")
        self.send_response(200 if Answer.asked >= 3 else 503)
        self.end_headers()
    def log_message(self, *_): pass
signal.signal(signal.SIGTERM, end)
note("started")
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""

#: A learner with a trial in a session of its own, as one that means to get away. A file gets its pid.
LEARNER = """
import pathlib, signal, subprocess, sys
trial = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"], start_new_session=True)
pathlib.Path(sys.argv[1]).write_text(str(trial.pid))
signal.pause()
"""

WAIT = "import signal; signal.pause()"
CRASH = "import sys; print('the disk is on fire'); sys.exit(3)"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
while True:
    signal.pause()
"""

QUICK = RestartPolicy(first_delay_s=0.05, max_delay_s=0.2, max_restarts=3, stable_s=60.0)


def python(source: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-c", source, *arguments)


def stack_in(directory: Path, *processes: ProcessSpec, restart: RestartPolicy = QUICK) -> StackSpec:
    return StackSpec(directory=str(directory), processes=processes, restart=restart)


def eventually(condition: Callable[[], T | Literal[False]], within_s: float = 15.0) -> T:
    """The first true result of the condition; a RetryError if there is none in time."""
    retrying = Retrying(
        retry=retry_if_result(lambda result: not result),
        stop=stop_after_delay(within_s),
        wait=wait_fixed(0.02),
    )
    return cast("T", retrying(condition))


def process_of(directory: Path, name: str) -> ProcessStatus:
    return next(process for process in status(directory).processes if process.name == name)


def in_state(directory: Path, name: str, state: str, restarts: int) -> ProcessStatus | Literal[False]:
    process = process_of(directory, name)
    return process if process.state == state and process.restarts == restarts else False


def pid_of(directory: Path, name: str) -> int:
    pid = process_of(directory, name).pid
    assert pid is not None
    return pid


def supervisor_of(directory: Path) -> int:
    pid = status(directory).supervisor_pid
    assert pid is not None
    return pid


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "a stack"
    yield place
    down(place)
    assert status(place).supervisor_pid is None
    assert status(place).leftovers == ()


def test_each_starts_when_what_it_needs_is_ready_and_stops_before_it(directory: Path, tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    ports = allocate_ports(directory, ("engine", "api"))

    def service(name: str, after: tuple[str, ...]) -> ProcessSpec:
        url = f"http://127.0.0.1:{ports[name]}/readyz"
        argv = python(SERVICE, name, str(ports[name]), str(journal))
        return ProcessSpec(name=name, argv=argv, after=after, ready=HttpReady(url))

    events: list[str] = []
    spec = stack_in(directory, service("api", ("engine",)), service("engine", ()))
    stack = up(spec, lambda event: events.append(f"{event.process} {event.text}"))
    now = stack.status()
    assert now.healthy
    assert [(p.name, p.state, p.ready, p.restarts) for p in now.processes] == [
        ("engine", "running", True, 0),
        ("api", "running", True, 0),
    ]
    assert all(process.since.utcoffset() is not None for process in now.processes)
    assert events.index("engine running") < events.index("api starting") < events.index("api running")
    stack.down()
    started = ["started", "ready"]
    assert journal.read_text().splitlines() == [
        *(f"engine {what}" for what in started),
        *(f"api {what}" for what in started),
        "api told to stop",
        "engine told to stop",
    ]
    assert [(p.name, p.state, p.pid) for p in status(directory).processes] == [
        ("engine", "stopped", None),
        ("api", "stopped", None),
    ]


def test_what_crashes_too_often_fails_with_the_logs_place_and_nothing_stays(directory: Path) -> None:
    spec = stack_in(
        directory,
        ProcessSpec(name="engine", argv=python(WAIT)),
        ProcessSpec(name="api", argv=python(CRASH), ready=TcpReady(1)),
    )
    events: list[str] = []
    with pytest.raises(StackError) as caught:
        up(spec, lambda event: events.append(f"{event.process} {event.text}"))
    log = directory / "log" / "api.log"
    sentence = f"api failed: it exited with status 3, 4 times in a row; its log is {log}"
    assert str(caught.value) == f"{sentence}, which ends with: the disk is on fire"
    delays = [event.rsplit(" in ", 1)[1] for event in events if event.startswith("api backoff")]
    assert delays == ["0.05 s", "0.1 s", "0.2 s"]
    assert log.read_text() == "the disk is on fire\n" * 4
    assert status(directory).supervisor_pid is None
    assert status(directory).leftovers == ()


def test_what_crashes_after_it_was_ready_fails_too_and_a_person_can_start_it_again(directory: Path) -> None:
    with up(stack_in(directory, ProcessSpec(name="api", argv=python(WAIT)))):
        for restarts in (1, 2, 3):
            os.kill(pid_of(directory, "api"), signal.SIGKILL)
            eventually(lambda: in_state(directory, "api", "running", restarts))  # noqa: B023 (called at once)
        os.kill(pid_of(directory, "api"), signal.SIGKILL)
        failed = eventually(lambda: in_state(directory, "api", "failed", 3))
        assert failed.reason == f"was killed by SIGKILL, 4 times in a row; its log is {failed.log}"
        assert not status(directory).healthy
        assert start(directory, "api").healthy


def test_a_program_that_does_not_exist_is_said_so(directory: Path) -> None:
    with pytest.raises(StackError, match="ends with: cannot run /no/such/program: No such file or directory"):
        up(stack_in(directory, ProcessSpec(name="api", argv=("/no/such/program",), ready=TcpReady(1))))


def test_what_is_not_ready_in_time_fails(directory: Path) -> None:
    never = ProcessSpec(
        name="api", argv=python(WAIT), ready=CommandReady(python("raise SystemExit(1)")), ready_timeout_s=0.3
    )
    with pytest.raises(StackError, match=r"api failed: it was not ready within 0\.3 s, 2 times in a row"):
        up(stack_in(directory, never, restart=RestartPolicy(first_delay_s=0.05, max_restarts=1)))


def test_environment_folder_and_a_command_as_readiness(directory: Path, tmp_path: Path) -> None:
    source = "import os; print(os.environ['TENANT'], os.getcwd(), flush=True); open('here', 'w'); " + WAIT
    spec = ProcessSpec(
        name="api",
        argv=python(source),
        env={"TENANT": "100% a=b 'c'"},
        cwd=str(tmp_path),
        ready=CommandReady(python("import os; raise SystemExit(not os.path.exists('here'))")),
    )
    with up(stack_in(directory, spec)):
        assert (directory / "log" / "api.log").read_text() == f"100% a=b 'c' {tmp_path}\n"


def test_trials_die_with_a_learner_that_crashes(directory: Path, tmp_path: Path) -> None:
    pid_file = tmp_path / "trial.pid"
    with up(stack_in(directory, ProcessSpec(name="learner", argv=python(LEARNER, str(pid_file))))):
        trial = int(eventually(lambda: pid_file.exists() and pid_file.read_text()))
        os.kill(pid_of(directory, "learner"), signal.SIGKILL)
        eventually(lambda: process_of(directory, "learner").restarts == 1)
        assert not lives(trial)
        eventually(lambda: int(pid_file.read_text() or trial) != trial)


def test_after_kill_9_of_the_supervisor_nothing_is_left_and_nothing_foreign_is_ended(
    directory: Path, tmp_path: Path
) -> None:
    pid_file = tmp_path / "trial.pid"
    spec = stack_in(
        directory,
        ProcessSpec(name="api", argv=python(WAIT)),
        ProcessSpec(name="learner", argv=python(LEARNER, str(pid_file))),
    )
    foreign = subprocess.Popen(python(WAIT), env={**os.environ, "_RATCHET_STACK": f"{directory.resolve()}2"})
    try:
        up(spec)
        trial = int(eventually(lambda: pid_file.exists() and pid_file.read_text()))
        children = [pid_of(directory, "api"), pid_of(directory, "learner")]
        os.kill(supervisor_of(directory), signal.SIGKILL)
        eventually(lambda: not any(map(lives, children)))
        eventually(lambda: status(directory).supervisor_pid is None)
        left = status(directory)
        assert {process.state for process in left.processes} == {"stopped"}
        assert left.leftovers == (trial,)
        pid_file.unlink()
        events: list[str] = []
        up(spec, lambda event: events.append(event.text))
        assert f"ended what an earlier supervisor had left: {trial}" in events
        assert not lives(trial)
        assert status(directory).healthy
        assert foreign.poll() is None
    finally:
        foreign.kill()
        foreign.wait()


def test_two_stacks_do_not_meet(directory: Path, tmp_path: Path) -> None:
    other = tmp_path / "another stack"
    spec = ProcessSpec(name="api", argv=python(WAIT))
    first, second = up(stack_in(directory, spec)), up(stack_in(other, spec))
    try:
        kept = pid_of(other, "api")
        first.down()
        up(stack_in(directory, spec)).down()
        assert second.status().healthy
        assert pid_of(other, "api") == kept
    finally:
        second.down()


def test_a_second_up_in_the_same_directory_is_refused(directory: Path) -> None:
    spec = stack_in(directory, ProcessSpec(name="api", argv=python(WAIT)))
    with up(spec):
        pid = pid_of(directory, "api")
        with pytest.raises(
            StackError, match=rf"already runs in .* \(supervisor's pid {supervisor_of(directory)}\)"
        ):
            up(spec)
        assert status(directory).healthy
        assert pid_of(directory, "api") == pid


def test_down_stops_a_stack_that_is_only_just_being_started(directory: Path) -> None:
    source = f"""
from infra.local.spec import ProcessSpec, StackSpec
from infra.local.stack import up
api = ProcessSpec(name="api", argv={python(WAIT)!r})
up(StackSpec(directory={str(directory)!r}, processes=(api,)))
"""
    caller = subprocess.Popen(python(source), stderr=subprocess.DEVNULL)
    try:
        # written when the directory is taken, before the supervisor is started
        eventually(StackFiles(directory).spec.exists)
        down(directory)
        caller.wait(timeout=30)
        assert status(directory).supervisor_pid is None
    finally:
        caller.kill()
        caller.wait()


def test_a_port_in_use_is_named_with_its_owner(directory: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        spec = StackSpec(directory=str(directory), processes=(), ports={"api": port})
        with pytest.raises(StackError, match=rf"port {port} for api is in use by pid {os.getpid()} \("):
            up(spec)
    up(spec).down()


def test_a_full_disk_is_said_before_anything_starts(directory: Path) -> None:
    free = shutil.disk_usage(directory.parent).free
    spec = StackSpec(directory=str(directory), processes=(), min_free_bytes=free * 2)
    with pytest.raises(StackError, match=r"MB free and the stack needs \d+ MB: make room"):
        up(spec)


def test_logs_are_rotated_while_the_process_writes(directory: Path) -> None:
    chatty = "\nfor n in range(4000): print(f'line {n:05}', flush=n == 3999)\n" + WAIT
    spec = StackSpec(
        directory=str(directory),
        processes=(ProcessSpec(name="api", argv=python(chatty)),),
        log_bytes=10_000,
        log_backups=2,
    )
    log = directory / "log" / "api.log"
    with up(spec):
        eventually(lambda: log.exists() and log.read_text().endswith("line 03999\n"))
    parts = sorted(log.parent.glob("api.log*"))
    assert [part.name for part in parts] == ["api.log", "api.log.1", "api.log.2"]


def test_one_process_is_stopped_started_and_restarted_alone(directory: Path) -> None:
    spec = stack_in(
        directory,
        ProcessSpec(name="worker", argv=python(WAIT), after=("kafka",)),
        ProcessSpec(name="kafka", argv=python(WAIT)),
    )
    with up(spec):
        kafka, worker = pid_of(directory, "kafka"), pid_of(directory, "worker")
        stop(directory, "worker")
        assert process_of(directory, "worker").state == "stopped"
        assert not lives(worker)
        assert start(directory, "worker").healthy
        assert start(directory, "worker").healthy  # again: without effect
        assert restart(directory, "worker").healthy
        assert pid_of(directory, "kafka") == kafka
        stop(directory, "kafka")
        with pytest.raises(StackError, match="worker needs kafka, which is stopped"):
            restart(directory, "worker")
        with pytest.raises(StackError, match=r"no process 'wroker' in the stack: it has kafka, worker"):
            stop(directory, "wroker")
    with pytest.raises(StackError, match="no stack runs in"):
        stop(directory, "worker")


def test_what_does_not_hear_sigterm_is_killed_when_its_time_is_over(directory: Path) -> None:
    deaf = ProcessSpec(name="api", argv=python(STUBBORN), stop_timeout_s=0.3)
    with up(stack_in(directory, deaf)):
        pid = pid_of(directory, "api")
        log = directory / "log" / "api.log"
        eventually(lambda: log.exists() and "deaf" in log.read_text())
    assert not lives(pid)


def test_a_tied_stack_ends_with_its_caller_even_by_kill_9(directory: Path) -> None:
    source = f"""
import signal
from infra.local.spec import ProcessSpec, StackSpec
from infra.local.stack import up
api = ProcessSpec(name="api", argv={python(WAIT)!r})
stack = up(StackSpec(directory={str(directory)!r}, processes=(api,)), tied=True)
signal.pause()
"""
    caller = subprocess.Popen(python(source))
    try:
        eventually(lambda: status(directory).healthy)
        pid, supervisor = pid_of(directory, "api"), supervisor_of(directory)
    finally:
        caller.kill()
        caller.wait()
    eventually(lambda: not lives(pid) and not lives(supervisor))


def test_a_users_own_folders_do_not_shadow_ours(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for room in ("infra", "api", "schemas", "tests"):
        (tmp_path / room).mkdir()
        (tmp_path / room / "__init__.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.chdir(tmp_path)
    source = "open('here', 'w'); " + WAIT
    ready = CommandReady(python("import os; raise SystemExit(not os.path.exists('here'))"))
    spec = ProcessSpec(name="api", argv=python(source), cwd=str(tmp_path), ready=ready)
    with up(stack_in(directory, spec)) as stack:
        assert stack.status().healthy


def test_the_supervisor_is_small_and_its_socket_private(directory: Path) -> None:
    with up(stack_in(directory, ProcessSpec(name="api", argv=python(WAIT)))):
        memory = psutil.Process(supervisor_of(directory)).memory_full_info()
        assert memory.pss < 60 * 1024 * 1024
        assert StackFiles(directory).socket.stat().st_mode & 0o077 == 0


def test_ports_stay_with_a_stack_and_no_other_gets_them(tmp_path: Path) -> None:
    names = ("kafka", "controller", "api")
    first = allocate_ports(tmp_path / "one", names, {"api": 21_999})
    second = allocate_ports(tmp_path / "two", names, {"api": 21_999})
    assert len({*first.values(), *second.values()}) == 6
    assert allocate_ports(tmp_path / "one", names) == first
    assert allocate_ports(tmp_path / "one", (*names, "search")).items() > first.items()


def test_down_without_a_stack_does_nothing(tmp_path: Path) -> None:
    down(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    assert status(tmp_path / "none").processes == ()
