"""The spill folder: what it keeps through crashes, full disks and other processes."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ratchet_client import spill as spilling
from ratchet_client.errors import SpillFull
from ratchet_client.spill import Spill

CLIENT = Path(__file__).parents[2] / "api" / "client"


def line(number: int) -> bytes:
    return b'{"id": "e-%d"}' % number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spill"


def opened(
    folder: Path, *, max_bytes: int = 10_000, segment_bytes: int = 1_000, durable: bool = True
) -> Spill:
    return Spill(folder, max_bytes=max_bytes, segment_bytes=segment_bytes, durable=durable)


def drained(spill: Spill) -> Iterator[bytes]:
    """Everything in it, oldest first, settled."""
    while (segment := spill.take()) is not None:
        yield from segment.lines()
        spill.remove(segment)


def test_what_goes_in_comes_out_in_order_and_leaves_no_file(folder: Path) -> None:
    spill = opened(folder, segment_bytes=60)
    for number in range(0, 20, 2):
        spill.append([line(number), line(number + 1)], float(number))
    assert len(list(folder.iterdir())) > 3
    assert (spill.pending, spill.oldest()) == (20, 0.0)
    assert spill.held_bytes == sum(len(line(number)) + 1 for number in range(20))
    assert list(drained(spill)) == [line(number) for number in range(20)]
    assert (list(folder.iterdir()), spill.pending, spill.held_bytes, spill.oldest()) == ([], 0, 0, None)
    spill.close()


def test_files_are_for_their_owner_only(folder: Path) -> None:
    spill = opened(folder)
    spill.append([line(1)], 0.0)
    (path,) = folder.iterdir()
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
    spill.close()


def test_a_living_owner_keeps_its_files_and_a_dead_one_leaves_them(folder: Path) -> None:
    first, second = opened(folder), opened(folder)
    first.append([line(1)], 0.0)
    second.append([line(2)], 0.0)
    assert (first.adopt(), second.adopt()) == (0, 0)
    first.close()
    assert second.adopt() == 1
    assert list(drained(second)) == [line(1), line(2)]
    second.close()
    assert list(folder.iterdir()) == []


def test_a_last_line_without_its_end_was_never_promised(folder: Path) -> None:
    spill = opened(folder)
    spill.append([line(1), line(2)], 0.0)
    (path,) = folder.iterdir()
    with path.open("ab") as file:
        file.write(line(3)[:7])
    spill.abandon()  # as a crash does: the locks go, the file stays as it is
    after = opened(folder)
    assert after.adopt() == 2
    assert list(drained(after)) == [line(1), line(2)]
    assert list(folder.iterdir()) == []


def test_lines_that_are_no_events_are_set_aside(folder: Path) -> None:
    folder.mkdir()
    broken = [b"\x00\x00\x00", b"[]", b'{"id": ""}', b'{"id": "e-']
    path = folder / "1-a.events.jsonl"
    path.write_bytes(b"\n".join([line(1), *broken, line(2), b""]))
    spill = opened(folder)
    assert spill.adopt() == 2
    spill.close()
    again = opened(folder)
    assert again.adopt() == 2
    assert list(drained(again)) == [line(1), line(2)]
    (aside,) = folder.iterdir()
    assert (aside.name, aside.read_bytes().split(b"\n")[:-1]) == (spilling.SET_ASIDE, broken)


def test_it_holds_so_many_bytes_and_takes_more_when_some_are_settled(folder: Path) -> None:
    spill = opened(folder, max_bytes=100, segment_bytes=30)
    while True:
        try:
            spill.append([line(1)], 0.0)
        except SpillFull:
            break
    assert spill.held_bytes <= 100 < spill.held_bytes + len(line(1)) + 1
    segment = spill.take()
    assert segment is not None
    with pytest.raises(SpillFull):
        spill.append([line(1)], 0.0)
    spill.remove(segment)
    spill.append([line(2)], 0.0)
    assert list(drained(spill))[-1] == line(2)
    spill.close()


def test_half_a_write_leaves_nothing_behind(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spill = opened(folder)
    spill.append([line(1)], 0.0)
    write = os.write

    def full(fd: int, data: bytes) -> int:
        if len(data) > 5:
            return write(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        spill.append([line(2)], 0.0)
    monkeypatch.undo()
    spill.append([line(3)], 0.0)
    assert list(drained(spill)) == [line(1), line(3)]
    spill.close()


def test_after_a_failed_fsync_nothing_more_goes_into_that_file(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spill = opened(folder)
    spill.append([line(1)], 0.0)

    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        spill.append([line(2)], 0.0)
    monkeypatch.undo()
    spill.append([line(3)], 0.0)
    assert len(list(folder.iterdir())) == 2
    assert list(drained(spill)) == [line(1), line(2), line(3)]
    spill.close()


def test_durable_means_that_each_append_was_synced_and_threads_share(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fsync, synced = os.fsync, [0]

    def count(fd: int) -> None:
        synced[0] += 1
        fsync(fd)

    monkeypatch.setattr(os, "fsync", count)
    spill = opened(folder, max_bytes=10**6, segment_bytes=10**6)
    spill.append([line(0)], 0.0)
    assert synced[0] >= 1

    def append_many() -> None:
        for number in range(50):
            spill.append([line(number)], 0.0)

    threads = [threading.Thread(target=append_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(drained(spill))) == 401
    assert synced[0] <= 405
    spill.close()
    lazy = opened(folder, durable=False)
    before = synced[0]
    lazy.append([line(1)], 0.0)
    assert synced[0] == before
    lazy.close()
    assert synced[0] > before


def test_of_a_segment_that_was_sent_in_part_the_rest_is_kept(folder: Path) -> None:
    spill = opened(folder)
    spill.append([line(1), line(2), line(3)], 0.0)
    segment = spill.take()
    assert segment is not None
    spill.settle(segment, 2)
    assert spill.pending == 1
    spill.keep(segment, [line(3)])
    spill.close()
    after = opened(folder)
    assert after.adopt() == 1
    assert list(drained(after)) == [line(3)]


def test_what_comes_in_late_goes_between_what_is_older_and_newer(folder: Path) -> None:
    spill = opened(folder)
    spill.append([line(3)], 3.0)
    spill.insert([line(1), line(2)], 1.0)
    spill.insert([line(4)], 4.0)
    spill.append([line(5)], 5.0)
    with pytest.raises(SpillFull):
        spill.insert([b"x" * 10_000], 2.0)
    assert (spill.pending, spill.oldest()) == (5, 1.0)
    assert list(drained(spill)) == [line(number) for number in range(1, 6)]
    spill.close()
    assert list(folder.iterdir()) == []


def test_processes_that_die_with_files_open_lose_none(folder: Path) -> None:
    """Three processes at once, killed by themselves; each wrote 40 events in segments."""
    code = """
import os, signal, sys
from pathlib import Path
from ratchet_client.spill import Spill
spill = Spill(Path(sys.argv[1]), max_bytes=10**6, segment_bytes=100, durable=True)
for number in range(40):
    spill.append([b'{"id": "%s-%d"}' % (sys.argv[2].encode(), number)], 0.0)
    spill.adopt()
os.kill(os.getpid(), signal.SIGKILL)
"""
    children = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", code, str(folder), name], env={"PYTHONPATH": str(CLIENT)}
        )
        for name in ("a", "b", "c")
    ]
    assert [child.wait() for child in children] == [-9, -9, -9]
    spill = opened(folder, max_bytes=10**6)
    assert spill.adopt() == 120
    assert sorted(drained(spill)) == sorted(
        b'{"id": "%s-%d"}' % (name, number) for name in (b"a", b"b", b"c") for number in range(40)
    )
    assert list(folder.iterdir()) == []


def test_a_forked_child_leaves_its_parents_files_alone(folder: Path) -> None:
    spill = opened(folder)
    spill.append([line(1)], 0.0)
    child = os.fork()
    if child == 0:
        spill.abandon()
        found = opened(folder).adopt()
        os._exit(found)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    spill.append([line(2)], 0.0)
    assert list(drained(spill)) == [line(1), line(2)]
    spill.close()
