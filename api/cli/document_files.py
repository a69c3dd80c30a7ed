"""Files of documents: JSON lines, CSV with a header, or a folder of texts. Reading only."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.interactions import Attribute

#: Names under which a line may give its document's id, the first one wins.
ID_NAMES: Final = ("document_id", "id", "_id")
TEXT_SUFFIXES: Final = frozenset({".txt", ".md"})
_MAX_CSV_FIELD: Final = 64 * 1024 * 1024
#: Called with the number of bytes that were read since the last call.
Advance = Callable[[int], None]


class SourceDocument(Struct, frozen=True, kw_only=True):
    """A document and where it was read: `line 12`, or a path."""

    place: str
    document_id: str
    title: str
    text: str
    fields: dict[str, Attribute]


class Unreadable(Struct, frozen=True):
    """A line or file that is no document, and why."""

    place: str
    reason: str


Item = SourceDocument | Unreadable


class NoDocuments(ValueError):
    """The path holds nothing that can be read as documents; the text says what was expected."""


def size_bytes(path: Path) -> int:
    """Bytes that `read_documents` will read."""
    return sum(file.stat().st_size for file in _text_files(path)) if path.is_dir() else path.stat().st_size


def read_documents(path: Path, advance: Advance) -> Iterator[Item]:
    """Every document of a file or folder, in order, and every place that holds none with the reason.

    `.jsonl` and `.ndjson`: an object a line; `.csv`: a header and a row each; a folder: its `.txt` and `.md`
    files, whose id is the path below the folder. Raises NoDocuments for anything else.
    """
    if path.is_dir():
        return _read_folder(path, advance)
    suffix = path.suffix.lower()
    if suffix in (".jsonl", ".ndjson"):
        return _read_lines(path, advance)
    if suffix == ".csv":
        return _read_csv(path, advance)
    raise NoDocuments(f"{path}: expected a .jsonl or .csv file or a folder of .txt and .md files")


def _text_files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in TEXT_SUFFIXES and p.is_file())


def _read_folder(folder: Path, advance: Advance) -> Iterator[Item]:
    files = _text_files(folder)
    if not files:
        raise NoDocuments(f"{folder} holds no .txt or .md file")
    for file in files:
        place = file.relative_to(folder).as_posix()
        try:
            content = file.read_bytes()
        except OSError as error:
            yield Unreadable(place, f"cannot be read: {error.strerror}")
            continue
        advance(len(content))
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            yield Unreadable(place, f"expected UTF-8: {error}")
            continue
        yield _checked(place, place, _title(file, text), text, {})


def _title(file: Path, text: str) -> str:
    """The first heading of Markdown, else the file's name as words."""
    if file.suffix.lower() == ".md":
        for line in text.splitlines():
            if line.startswith("# "):
                return line.removeprefix("# ").strip()
    return file.stem.replace("_", " ").replace("-", " ")


def _read_lines(path: Path, advance: Advance) -> Iterator[Item]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            advance(len(line))
            if line.strip():
                yield _from_line(f"line {number}", line.removeprefix(b"\xef\xbb\xbf"))


def _from_line(place: str, line: bytes) -> Item:
    try:
        values = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return Unreadable(place, f"expected JSON in UTF-8: {error}")
    if not isinstance(values, dict):
        return Unreadable(place, f"expected an object, got {type(values).__name__}")
    given = values.pop("fields", None) or {}
    if not isinstance(given, dict):
        return Unreadable(place, f"expected `fields` to be an object, got {type(given).__name__}")
    return _from_values(place, values, given)


def _read_csv(path: Path, advance: Advance) -> Iterator[Item]:
    csv.field_size_limit(_MAX_CSV_FIELD)
    with path.open(encoding="utf-8-sig", newline="") as file:

        def lines() -> Iterator[str]:
            for line in file:
                advance(len(line.encode()))
                yield line

        reader = csv.DictReader(lines())
        try:
            header = reader.fieldnames or ()
        except (csv.Error, UnicodeDecodeError) as error:
            raise NoDocuments(f"{path}: expected CSV in UTF-8: {error}") from error
        if "text" not in header or not any(name in header for name in ID_NAMES):
            raise NoDocuments(
                f"{path}: expected a header with `text` and one of {', '.join(ID_NAMES)}, "
                f"got {', '.join(header) or 'nothing'}"
            )
        try:
            for row in reader:
                place = f"line {reader.line_num}"
                if None in row:
                    yield Unreadable(place, f"expected {len(header)} values as in the header, got more")
                    continue
                yield _from_values(place, {name: value for name, value in row.items() if value}, {})
        except (csv.Error, UnicodeDecodeError) as error:
            place = f"line {reader.line_num + 1}"
            yield Unreadable(place, f"expected CSV in UTF-8: {error}; nothing from here on was read")


def _from_values(place: str, values: dict[str, Any], fields: dict[str, Any]) -> Item:
    names = [name for name in ID_NAMES if values.get(name) not in (None, "")]
    if not names:
        return Unreadable(place, f"needs an id: one of {', '.join(ID_NAMES)}")
    document_id = values.pop(names[0])
    title, text = values.pop("title", None) or "", values.pop("text", None)
    if isinstance(document_id, bool) or not isinstance(document_id, str | int):
        return Unreadable(place, f"expected {names[0]} as text or a whole number, got {document_id!r}")
    if not isinstance(title, str) or not isinstance(text, str | None):
        return Unreadable(place, "expected `title` and `text` as text")
    others = {name: value for name, value in values.items() if name not in ID_NAMES}
    attributes = {
        name: found for name, value in (others | fields).items() if (found := _attribute(value)) is not None
    }
    return _checked(place, str(document_id), title, text or "", attributes)


def _checked(place: str, document_id: str, title: str, text: str, fields: dict[str, Attribute]) -> Item:
    if not text.strip():
        return Unreadable(place, f"needs a `text`: document {document_id!r} has none")
    return SourceDocument(place=place, document_id=document_id, title=title, text=text, fields=fields)


def _attribute(value: object) -> Attribute | None:
    """A field's value; what is nested is kept as JSON text, what is empty is left out."""
    if isinstance(value, str | int | float | bool):
        return value
    return msgspec.json.encode(value).decode() if value else None
