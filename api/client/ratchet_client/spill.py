"""Events on disk until they are confirmed: segments of JSON lines, of several processes in one folder.

A segment is a file that one process holds with a lock (`flock`) for as long as it lives. It is written at
its end only, sent from its beginning, and removed when all of its events are settled. What a process leaves
behind, another one adopts: a file whose lock is free. Nothing says how far a segment was sent, so after a
crash its first events may be sent again, with the same ids.

Needs POSIX locks, and a folder on a file system that has them: local, or NFS from version 4 on.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path

from ratchet_client.errors import SpillFull
from ratchet_client.wire import mint_id

_log = logging.getLogger("ratchet_client")

_ENDING = ".events.jsonl"
#: A file that is not locked yet has this ending; one that stays for so long was left by a crash.
_NEW = ".new"
_NEW_FOR_S = 60.0
#: What cannot be sent: lines that are no events, and events that the server takes in no request.
SET_ASIDE = "set-aside.jsonl"


class Segment:
    """A file of events that this process holds. `left` of them are not settled; `since` as in `append`."""

    def __init__(self, path: Path, fd: int, since: float) -> None:
        self.path = path
        self.fd = fd
        self.since = since
        self.bytes = 0
        self.left = 0

    def lines(self) -> list[bytes]:
        """The events, as they were written; not what a crash left of a last line."""
        return self.path.read_bytes().split(b"\n")[:-1]


class Spill:
    """A bounded queue on disk. Thread-safe; several processes and objects may share the folder.

    `append` returns when the operating system has the events: they outlive this process, however it ends.
    If `durable`, it returns when the disk has them: they outlive the machine's power, too. Threads that
    append at the same time share one fsync. Otherwise the disk is waited for at `close` only.
    """

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int, durable: bool) -> None:
        """`max_bytes` bounds all segments that this object holds; those of other processes have their own."""
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._durable = durable
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._current: Segment | None = None
        self._sealed: deque[Segment] = deque()
        self._taken: list[Segment] = []
        self._bytes = 0
        self._written = 0
        self._synced = 0
        self._closed = False

    def _held(self) -> list[Segment]:
        current = [] if self._current is None else [self._current]
        return [*self._taken, *self._sealed, *current]

    @property
    def pending(self) -> int:
        """Events that are not settled, as far as they are known to this object."""
        with self._lock:
            return sum(segment.left for segment in self._held())

    @property
    def held_bytes(self) -> int:
        """Bytes of the segments that this object holds."""
        return self._bytes

    def oldest(self) -> float | None:
        """The least `since` of what is not settled; None if nothing is left."""
        with self._lock:
            return min((segment.since for segment in self._held() if segment.left), default=None)

    def waiting(self) -> tuple[float, int, bool] | None:
        """Of what `take` would take: its `since`, how many events, and whether it is whole. None: nothing."""
        with self._lock:
            segment = self._sealed[0] if self._sealed else self._current
            return None if segment is None else (segment.since, segment.left, segment is not self._current)

    def append(self, lines: Sequence[bytes], since: float) -> None:
        """Keep these lines, all or none. `since`: when the first was recorded (`time.monotonic()`).

        Raises SpillFull, or OSError if they cannot be written.
        """
        data = b"".join(line + b"\n" for line in lines)
        with self._lock:
            if self._closed:
                raise OSError("the spill folder was closed")
            if self._bytes + len(data) > self._max_bytes:
                raise SpillFull
            if self._current is not None and self._current.bytes >= self._segment_bytes:
                self._seal()
            if self._current is None:
                self._current = self._create(since)
            _write(self._current, data)
            self._bytes += len(data)
            self._current.left += len(lines)
            self._written += 1
            mark = self._written
        if self._durable:
            self._sync(mark)

    def _sync(self, mark: int) -> None:
        """Wait until the disk has all appends up to this one."""
        with self._syncing:
            with self._lock:
                if self._synced >= mark or self._current is None:
                    return
                fd, written = self._current.fd, self._written
            try:
                os.fsync(fd)
            except OSError:
                # The kernel may forget what it could not write: nothing more goes into this file.
                with self._lock, contextlib.suppress(OSError):
                    self._seal()
                raise
            self._synced = max(self._synced, written)

    def _create(self, since: float) -> Segment:
        path = self._folder / f"{os.getpid()}-{mint_id()}{_ENDING}"
        new = path.with_name(f".{path.name}{_NEW}")
        fd = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # It gets the name by which others look for it only when it is locked.
            new.rename(path)
            if self._durable:
                _sync_folder(self._folder)
        except OSError:
            os.close(fd)
            raise
        return Segment(path, fd, since)

    def _seal(self) -> None:
        """End the segment that is being written. Raises OSError if the disk does not take it."""
        segment, self._current = self._current, None
        if segment is not None:
            self._sealed.append(segment)
            if self._durable:
                os.fsync(segment.fd)
                self._synced = self._written

    def take(self) -> Segment | None:
        """The oldest segment, to be sent; None if there is none. One that is being written ends here."""
        with self._lock:
            if not self._sealed and self._current is not None:
                try:
                    self._seal()
                except OSError as error:
                    _log.warning("fsync of a spill file failed: %s", error)
            if not self._sealed:
                return None
            segment = self._sealed.popleft()
            self._taken.append(segment)
            return segment

    def settle(self, segment: Segment, events: int) -> None:
        """So many more events of a segment that was taken are confirmed, or refused."""
        with self._lock:
            segment.left -= events

    def remove(self, segment: Segment) -> None:
        """All of a segment that was taken is settled."""
        with self._syncing, self._lock:
            segment.path.unlink(missing_ok=True)
            self._taken = [other for other in self._taken if other is not segment]
            self._bytes -= segment.bytes
            _release(segment)

    def adopt(self) -> int:
        """Take over the files that nobody holds. Returns how many events came with them."""
        found = 0
        # Each goes before those in hand: the latest first, so that the oldest is sent first.
        for path in sorted(self._folder.glob(f"*{_ENDING}"), key=_made, reverse=True):
            segment = _lock_free(path)
            if segment is None:
                continue
            try:
                segment, bad = self._mended(segment)
            except OSError as error:
                _log.warning("%s cannot be read now, and is left where it is: %s", path, error)
                _release(segment)
                continue
            with self._lock:
                self._sealed.appendleft(segment)
                self._bytes += segment.bytes
            if bad:
                _log.error("%s: %d lines are no events; they are kept in %s", path, bad, SET_ASIDE)
            found += segment.left
        for path in self._folder.glob(f".*{_NEW}"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > _NEW_FOR_S:
                    path.unlink()
        return found

    def _mended(self, segment: Segment) -> tuple[Segment, int]:
        """A file of another process without the lines that are no events, and how many those are."""
        lines, bad = _checked(segment)
        segment.left = len(lines)
        segment.bytes = segment.path.stat().st_size
        if not bad:
            return segment, 0
        self.set_aside(bad)
        return self._rewritten(segment, lines), len(bad)

    def insert(self, lines: Sequence[bytes], since: float) -> None:
        """Keep these lines, all or none, before what was recorded after them. Raises as `append`."""
        size = sum(len(line) + 1 for line in lines)
        with self._lock:
            if self._closed:
                raise OSError("the spill folder was closed")
            if self._bytes + size > self._max_bytes:
                raise SpillFull
            if self._current is not None and self._current.since <= since:
                self._seal()
            segment = self._filled(lines, since, sync=self._durable)
            place = sum(other.since <= since for other in self._sealed)
            self._sealed.insert(place, segment)
            self._bytes += size

    def _filled(self, lines: Sequence[bytes], since: float, *, sync: bool) -> Segment:
        """A new segment with these lines. Raises OSError, and leaves nothing then."""
        segment = self._create(since)
        try:
            _write(segment, b"".join(line + b"\n" for line in lines))
            if sync:
                os.fsync(segment.fd)
        except OSError:
            segment.path.unlink(missing_ok=True)
            _release(segment)
            raise
        segment.left = len(lines)
        return segment

    def _rewritten(self, segment: Segment, lines: Sequence[bytes]) -> Segment:
        """A segment with these lines only, in place of the one given, which stays if this fails."""
        # On disk before the old one goes, whatever the mode: that one may have been promised to be.
        kept = self._filled(lines, segment.since, sync=True)
        segment.path.unlink(missing_ok=True)
        _release(segment)
        return kept

    def keep(self, segment: Segment, lines: Sequence[bytes]) -> None:
        """Of a segment that was taken, only these lines are left: who adopts it sends no others. Or all."""
        with self._syncing, self._lock:
            if self._closed:
                return
            with contextlib.suppress(OSError):
                kept = self._rewritten(segment, lines)
                self._taken = [kept if other is segment else other for other in self._taken]
                self._bytes += kept.bytes - segment.bytes

    def set_aside(self, lines: Sequence[bytes]) -> None:
        """Keep what cannot be sent as it is. Several processes may write the file at once."""
        fd = os.open(self._folder / SET_ASIDE, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            _write_all(fd, b"".join(line + b"\n" for line in lines))
            os.fsync(fd)
        finally:
            os.close(fd)

    def close(self) -> None:
        """Let go of the files: whoever looks first adopts them. Files without an event are removed."""
        with self._syncing, self._lock:
            if self._closed:
                return
            self._closed = True
            for segment in self._held():
                if segment.left:
                    with contextlib.suppress(OSError):
                        os.fsync(segment.fd)
                else:
                    segment.path.unlink(missing_ok=True)
                _release(segment)

    def abandon(self) -> None:
        """In a forked child: the parent goes on with these files. Its locks stay; our handles go."""
        self._closed = True
        for segment in self._held():
            _release(segment)


def _made(path: Path) -> str:
    """Sorts by the time at which a file was made: its name has a UUIDv7 after the process."""
    return path.name.partition("-")[2]


def _write(segment: Segment, data: bytes) -> None:
    """Append all or nothing. Raises OSError."""
    try:
        _write_all(segment.fd, data)
    except OSError:
        # A full disk takes a part: nothing may follow half a line.
        os.ftruncate(segment.fd, segment.bytes)
        raise
    segment.bytes += len(data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _release(segment: Segment) -> None:
    fd, segment.fd = segment.fd, -1
    if fd >= 0:
        os.close(fd)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _lock_free(path: Path) -> Segment | None:
    """The file, locked, if nobody holds it and it still stands."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_APPEND)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if os.fstat(fd).st_nlink == 0:  # its process settled it while we opened it
        os.close(fd)
        return None
    return Segment(path, fd, since=0.0)


def _checked(segment: Segment) -> tuple[list[bytes], list[bytes]]:
    """Lines of a file that another process wrote: the events, and what is none.

    A last line without its end is of a process that died in writing it; its caller was told nothing.
    """
    lines = segment.lines()
    bad = set(_no_events(lines))
    return [line for n, line in enumerate(lines) if n not in bad], [lines[n] for n in sorted(bad)]


def _no_events(lines: Sequence[bytes]) -> Iterator[int]:
    for number, line in enumerate(lines):
        try:
            event = json.loads(line)
        except ValueError:
            yield number
            continue
        if not isinstance(event, dict) or not event.get("id"):
            yield number
