"""A log of bounded size that never stops what is being logged."""

import os
from pathlib import Path


class LogFile:
    """Appends bytes to ``path``; at ``max_bytes`` it becomes ``path.1``, that ``path.2``, and so on up to
    ``backups``.

    Lines are not cut by a rotation, but for one that would make a file twice as large: output without line
    ends is bounded, too. A disk that is full or broken loses log lines and raises nothing: a stack that dies
    because its log cannot be written would be the worse of the two. Not thread-safe.
    """

    def __init__(self, path: Path, max_bytes: int, backups: int) -> None:
        self.path = path
        self.lost_bytes = 0
        #: The last line that is not empty, without control characters at its ends, for error messages.
        self.last_line = ""
        self._max_bytes = max_bytes
        self._backups = backups
        self._fd: int | None = None
        self._size_bytes = 0

    def write(self, data: bytes) -> None:
        """Append ``data``, rotating first where it would pass the limit."""
        lines = data.rstrip().rsplit(b"\n", 1)
        self.last_line = lines[-1].decode(errors="replace").strip()[-300:] or self.last_line
        try:
            if self._fd is None:
                self._open()
            while len(data) > (room := max(0, self._max_bytes - self._size_bytes)):
                # The whole lines that fit; if none does, the one that is under way, as far as it may go.
                most = max(0, 2 * self._max_bytes - self._size_bytes)
                end = data.rfind(b"\n", 0, room) + 1 or data.find(b"\n", 0, most) + 1 or most
                self._append(data[:end])
                data = data[end:]
                if not data:
                    return
                self._rotate()
            self._append(data)
        except OSError:
            self.lost_bytes += len(data)

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open(self) -> None:
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._size_bytes = os.fstat(self._fd).st_size

    def _append(self, data: bytes) -> None:
        assert self._fd is not None
        while data:
            written = os.write(self._fd, data)
            self._size_bytes += written
            data = data[written:]

    def _rotate(self) -> None:
        self.close()
        names = [
            self.path,
            *(self.path.with_name(f"{self.path.name}.{n}") for n in range(1, self._backups + 1)),
        ]
        for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
            if newer.exists():
                newer.replace(older)
        if self._backups == 0:
            self.path.unlink()
        self._open()
