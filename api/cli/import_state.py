"""How far an import came, below `var/imports/`: so that one that was killed goes on.

A file is known again by what was read of it: the hash of every line that was taken. If it has changed, the
import begins anew, which is safe as well: what is stored twice counts once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

from api.cli.import_files import Unit
from infra.local.spec import write_whole

_SEPARATOR: Final = b"\n"


class Position(Struct, frozen=True):
    """The last unit that was taken, the hash of all up to it, and what became of them."""

    number: int = 0
    digest: str = ""
    good: int = 0
    bad: int = 0
    ignored: int = 0


class Progress:
    """The position of one import: file, tenant, format and mapping name it."""

    def __init__(self, directory: Path | None, *names: str) -> None:
        """`directory`: None keeps nothing (standard input cannot be read again)."""
        key = hashlib.sha256("\x1f".join(names).encode()).hexdigest()[:32]
        self._path = None if directory is None else directory / f"{key}.json"
        self._hash = hashlib.sha256()
        #: As it was kept by an import before; at the beginning if none was.
        self.found = self._load()

    def _load(self) -> Position:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Position) if self._path else Position()
        except (OSError, msgspec.MsgspecError):
            return Position()

    def resume(self, begin: Callable[[], Iterable[Unit]]) -> Iterator[Unit]:
        """The units that were not taken yet; if the file is another one all, and nothing is `found` then."""
        units = iter(begin())
        if not self.found.number:
            return units
        last: Unit | None = None
        for unit in units:
            if unit.number > self.found.number:
                last = unit
                break
            self._add(unit)
        if self._hash.hexdigest() == self.found.digest:
            return units if last is None else _with(last, units)
        self._hash = hashlib.sha256()
        self.found = Position()
        return iter(begin())

    def advance(self, units: Iterable[Unit], *, good: int, bad: int, ignored: int) -> None:
        """Note that these, at least one, are taken, and the counts of the whole import.

        An import that cannot keep its place is an import all the same: it begins anew when it is run again.
        """
        number = 0
        for unit in units:
            self._add(unit)
            number = unit.number
        if self._path is not None:
            position = Position(number, self._hash.hexdigest(), good, bad, ignored)
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self._path, msgspec.json.encode(position))
            except OSError:
                self._path = None

    def finish(self) -> None:
        """Forget it: the next import of the file begins anew."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _add(self, unit: Unit) -> None:
        self._hash.update(unit.content)
        self._hash.update(_SEPARATOR)


def _with(first: Unit, rest: Iterator[Unit]) -> Iterator[Unit]:
    yield first
    yield from rest
