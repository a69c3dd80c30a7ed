"""What a stack is and what it writes, without starting anything."""

import stat
from pathlib import Path

import pytest

from infra.local.broker import server_properties
from infra.local.leftovers import marks
from infra.local.logfile import LogFile
from infra.local.process import describe_exit
from infra.local.spec import ProcessSpec, RestartPolicy, StackError, StackFiles, StackSpec, write_whole


def stack_of(**after: tuple[str, ...]) -> StackSpec:
    processes = tuple(ProcessSpec(name=name, argv=("true",), after=needs) for name, needs in after.items())
    return StackSpec(directory="unused", processes=processes)


def test_processes_start_after_what_they_need() -> None:
    order = [p.name for p in stack_of(api=("kafka", "engine"), engine=(), kafka=()).start_order()]
    assert order[-1] == "api"
    assert sorted(order) == ["api", "engine", "kafka"]


def test_a_circle_of_needs_is_named() -> None:
    with pytest.raises(StackError, match=r"wait for each other: .*api.* -> .*worker"):
        stack_of(api=("worker",), worker=("api",)).start_order()


def test_a_need_outside_the_stack_is_named() -> None:
    with pytest.raises(StackError, match="api starts after kafka, which is not in the stack"):
        stack_of(api=("kafka",)).start_order()


def test_names_are_unique_and_fit_a_file_name() -> None:
    twice = ProcessSpec(name="api", argv=("true",))
    with pytest.raises(StackError, match="same name"):
        StackSpec(directory="unused", processes=(twice, twice)).start_order()
    with pytest.raises(StackError, match=r"'\.\./api' does not"):
        stack_of(**{"../api": ()}).start_order()


def test_delays_double_up_to_their_limit() -> None:
    policy = RestartPolicy(first_delay_s=0.5, max_delay_s=3.0)
    assert [policy.delay_s(n) for n in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_a_log_rotates_between_lines_and_loses_only_what_is_oldest(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "api.log", max_bytes=50, backups=2)
    lines = [f"line {n:02}\n" for n in range(30)]
    for first in range(0, 30, 3):
        text = "".join(lines[first : first + 3])
        log.write(text[:11].encode())  # in the middle of the second line
        log.write(text[11:].encode())
    log.close()
    parts = [tmp_path / "api.log.2", tmp_path / "api.log.1", tmp_path / "api.log"]
    kept = [part.read_text().splitlines(keepends=True) for part in parts]
    together = [line for part in kept for line in part]
    assert together == lines[-len(together) :]
    assert all(part.stat().st_size <= 50 + len(lines[0]) for part in parts)
    assert sorted(tmp_path.iterdir()) == sorted(parts)
    assert log.last_line == "line 29"


def test_a_log_without_line_ends_is_bounded_too(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "api.log", max_bytes=50, backups=2)
    written = b"".join(b"%03d%%\r" % percent for percent in range(101))
    for first in range(0, len(written), 35):
        log.write(written[first : first + 35])
    log.close()
    parts = [tmp_path / "api.log.2", tmp_path / "api.log.1", tmp_path / "api.log"]
    assert all(part.stat().st_size <= 100 for part in parts)
    assert written.endswith(b"".join(part.read_bytes() for part in parts))


def test_a_log_goes_on_where_it_ended(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        log = LogFile(tmp_path / "api.log", max_bytes=1000, backups=1)
        log.write(text)
        log.close()
    assert (tmp_path / "api.log").read_text() == "first\nsecond\n"


def test_a_log_that_cannot_be_written_stops_nothing() -> None:
    full = LogFile(Path("/dev/full"), max_bytes=1000, backups=1)
    full.write(b"one line\n")
    full.close()
    assert full.lost_bytes == len(b"one line\n")
    assert full.last_line == "one line"


def test_what_may_hold_keys_is_the_owners_alone(tmp_path: Path) -> None:
    files = StackFiles(tmp_path / "a stack")
    files.make()
    assert stat.S_IMODE(files.private.stat().st_mode) == 0o700


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"cannot use .*file/stack for the stack"):
        StackFiles(tmp_path / "file" / "stack").make()


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "ports.json"
    write_whole(path, b"one")
    write_whole(path, b"2")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("ports.json", b"2")]


def test_marks_tell_stacks_apart() -> None:
    assert marks(Path("/a"), "api") != marks(Path("/b"), "api")
    # RATCHET_* are settings of the platform, where unknown ones are errors.
    assert not any(variable.startswith("RATCHET") for variable in marks(Path("/a"), "api"))


@pytest.mark.parametrize(
    ("status", "words"),
    [(0, "exited with status 0"), (3, "exited with status 3"), (-9, "was killed by SIGKILL")],
)
def test_exits_in_words(status: int, words: str) -> None:
    assert describe_exit(status) == words


def test_the_broker_listens_on_loopback_only_and_forgets_nothing() -> None:
    settings = dict(line.split("=", 1) for line in server_properties(9092, 9093).splitlines())
    assert settings["listeners"] == "PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093"
    assert settings["controller.quorum.voters"] == "1@127.0.0.1:9093"
    assert settings["log.retention.ms"] == settings["log.retention.bytes"] == "-1"
    assert settings["auto.create.topics.enable"] == "false"
    replication = [name for name in settings if name.endswith(("replication.factor", "min.isr"))]
    assert {settings[name] for name in replication} == {"1"}
