"""Rows of a table → events, by a mapping that a person wrote. A row comes as a JSON object: column → cell.

```toml
source = "urn:import:shop"          # who says it; ids are unique within it
id = "row"                          # the column that names a row; without one its whole content does
time = { column = "at", format = "%d.%m.%Y %H:%M", zone = "Europe/Berlin" }

[[event]]
type = "query.asked"
data = { query_id = "qid", text = "question", "attributes.country" = "land" }

[[event]]
type = "feedback.given"
when = { column = "rating", is = ["good", "bad"] }
data.query_id = "qid"
data.kind = { constant = "thumb" }
data.value = { column = "rating", values = { good = 1, bad = -1 } }
```

Where no column names the row, two equal rows are one event, and a row whose mapping changed is the same event
with other content: a conflict, not a second event. What cannot be read of a cell is passed on as it is, so
that admission says what it expected, and `rejected` keeps an event that can be mended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import UNSET, Struct, UnsetType

from ingest.formats.cells import Leaf, NotFound, convert_cell, is_empty, leaf_at, read_time, text_of, zone_of
from ingest.formats.items import Item, Undecoded
from ingest.formats.pieces import Format, Piece, content_id, invalid, missing, reading, split_json
from ingest.refusals import suggest
from schemas.errors import RatchetError, Rejectable
from schemas.registry import APPLICATION_TYPES, BY_NAME

DEFAULT_SOURCE: Final = "urn:ratchet:table"
_PREFIX: Final = "ratchet."
_VERSION: Final = ".v1"


class MappingError(RatchetError):
    """A mapping that says nothing, or names what is not there; the text says what to change."""


class Cell(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a field's value comes from. Text alone is a column."""

    column: str = ""
    constant: Any | UnsetType = UNSET
    #: Text of the cell → value; one that is not in it is refused, unless `otherwise` says what it is. A value
    #: that is an empty text leaves the field out.
    values: dict[str, Any] = {}
    otherwise: Any | UnsetType = UNSET
    #: Cuts a text into a list; documents get their ranks in its order.
    split: str = ""
    #: What a text is read as: `json` for what has inner structure, `number` or `boolean` for an attribute.
    read_as: str = msgspec.field(name="as", default="")


class When(Struct, frozen=True, forbid_unknown_fields=True):
    """The rows that an event is made of: those whose cell is not empty, or is one of some texts."""

    column: str
    is_: list[str] = msgspec.field(name="is", default_factory=list)


class Time(Struct, frozen=True, forbid_unknown_fields=True):
    """When it was. `format`: iso; s, ms, us, ns since 1970; or as of strptime. `zone`: where it says none."""

    column: str
    format: str = "iso"
    zone: str = "UTC"


class EventMapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An event of a row. `name` tells several of one type apart; `id`: a column that is its very id."""

    type: str
    name: str = ""
    id: str = ""
    time: Time | str = ""
    when: When | str = ""
    data: dict[str, Any]


class TableMapping(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping as it is written."""

    source: str = DEFAULT_SOURCE
    id: str = ""
    time: Time | str = ""
    event: list[EventMapping]


class _Field(Struct, frozen=True):
    path: tuple[str, ...]
    cell: Cell
    leaf: Leaf


class _Maker(Struct, frozen=True):
    """One event of the mapping, checked."""

    type: str
    role: str
    id: str
    row_id: str
    time: Time | None
    when: When | None
    fields: tuple[_Field, ...]
    source: str


def read_mapping(tree: Mapping[str, Any], *, id_column: str = "") -> TableMapping:
    """A mapping of parsed TOML. `id_column` takes the place of its `id`. Raises MappingError."""
    try:
        mapping = msgspec.convert(tree, TableMapping)
    except msgspec.ValidationError as error:
        raise MappingError(f"the mapping: {error}") from error
    return msgspec.structs.replace(mapping, id=id_column) if id_column else mapping


def table_format(name: str, mapping: TableMapping, columns: Sequence[str] | None = None) -> Format:
    """The format of a table's rows. Raises MappingError; with `columns`, also for one that is not there."""
    if not mapping.event:
        raise MappingError("the mapping makes no event: give it an [[event]]")
    makers = [_maker(mapping, event) for event in mapping.event]
    roles = [maker.role for maker in makers]
    if twice := next((role for role in roles if roles.count(role) > 1), None):
        raise MappingError(
            f"two events are called {twice!r}: give each a `name` of its own, for ids differ by it"
        )
    if columns is not None:
        _check_columns(makers, columns)

    def make(piece: Piece) -> list[Item]:
        row = msgspec.json.decode(piece)
        if not isinstance(row, dict):
            raise invalid("", "expected an object: column → value")
        return [_make(maker, row, piece) for maker in makers if _applies(maker, row)]

    return Format(
        name=name,
        about="rows of a table, by a mapping",
        source=mapping.source,
        split=split_json,
        read=reading(make),
        fields=_columns_of_fields(makers),
    )


def columns_of(mapping: TableMapping) -> list[str]:
    """Every column that a mapping names. Raises MappingError."""
    return sorted({name for event in mapping.event for name in _names(_maker(mapping, event))})


def _maker(mapping: TableMapping, event: EventMapping) -> _Maker:
    known = {one.name.removeprefix(_PREFIX).removesuffix(_VERSION): one.name for one in APPLICATION_TYPES}
    type_ = known.get(event.type, event.type)
    if type_ not in known.values():
        raise MappingError(
            f"no event type {event.type!r}{suggest(event.type, known)}; there are {', '.join(known)}"
        )
    payload = BY_NAME[type_].payload
    fields: list[_Field] = []
    for path, written in _flat(event.data):
        try:
            cell = Cell(column=written) if isinstance(written, str) else msgspec.convert(written, Cell)
        except msgspec.ValidationError as error:
            raise MappingError(f"{event.type}, {path}: {error}; write a column, or a table") from error
        if bool(cell.column) is not (cell.constant is UNSET):
            raise MappingError(f"{event.type}, {path}: give a column or a constant, one of them")
        if cell.read_as not in ("", "json", "number", "boolean", "text"):
            raise MappingError(f"{event.type}, {path}: expected as = json, number, boolean or text")
        try:
            steps, leaf = leaf_at(payload, path)
        except NotFound as wrong:
            raise MappingError(f"{event.type} has no field {path!r}{wrong.hint}") from wrong
        for other in fields:
            if steps[: len(other.path)] == other.path or other.path[: len(steps)] == steps:
                raise MappingError(f"{event.type}, {path}: another line sets it, or a part of it, already")
        fields.append(_Field(steps, cell, leaf))
    return _Maker(
        type_,
        event.name or type_.removeprefix(_PREFIX).removesuffix(_VERSION),
        event.id,
        mapping.id,
        _time_of(event.time or mapping.time),
        When(event.when) if isinstance(event.when, str) and event.when else event.when or None,
        tuple(fields),
        mapping.source,
    )


def _flat(data: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted path, what is written there); a table that is no `Cell` holds fields of its own."""
    for name, written in data.items():
        if isinstance(written, dict) and not written.keys() & {"column", "constant"}:
            yield from _flat(written, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", written


def _time_of(written: Time | str) -> Time | None:
    if not written:
        return None
    time = Time(written) if isinstance(written, str) else written
    if zone_of(time.zone) is None:
        raise MappingError(f"no time zone {time.zone!r}: give one such as Europe/Berlin")
    return time


def _names(maker: _Maker) -> set[str]:
    named = {field.cell.column for field in maker.fields} | {maker.id, maker.row_id}
    named |= {one.column for one in (maker.time, maker.when) if one is not None}
    return named - {""}


def _check_columns(makers: Sequence[_Maker], columns: Sequence[str]) -> None:
    for maker in makers:
        for name in sorted(_names(maker)):
            if name not in columns:
                raise MappingError(
                    f"there is no column {name!r}{suggest(name, columns)}; there are {', '.join(columns)}"
                )


def _columns_of_fields(makers: Sequence[_Maker]) -> dict[str, str]:
    """Field of an event → column, to say in the table's words what was refused."""
    found: dict[str, list[str]] = {}
    for maker in makers:
        named = {"data." + ".".join(field.path): field.cell.column for field in maker.fields}
        named |= {"time": maker.time.column if maker.time else "", "id": maker.id or maker.row_id}
        for field, column in named.items():
            if column and column not in found.setdefault(field, []):
                found[field].append(column)
    return {field: " or ".join(columns) for field, columns in found.items() if columns}


def _applies(maker: _Maker, row: Mapping[str, Any]) -> bool:
    when = maker.when
    if when is None:
        return True
    cell = row.get(when.column)
    return text_of(cell) in when.is_ if when.is_ else not is_empty(cell)


def _make(maker: _Maker, row: Mapping[str, Any], piece: Piece) -> Item:
    why: Rejectable | None = None
    event: dict[str, Any] = {"specversion": "1.0", "id": "", "source": maker.source, "type": maker.type}
    data: dict[str, Any] = {}
    try:
        event["id"] = _id_of(maker, row, piece)
    except Rejectable as refused:
        why = refused
    if maker.time is not None and not is_empty(cell := row.get(maker.time.column)):
        try:
            event["time"] = read_time(cell, maker.time.format, maker.time.zone)
        except ValueError as error:
            event["time"] = cell
            why = why or invalid(maker.time.column, f"{maker.time.column}: {error}")
    for field in maker.fields:
        try:
            value = _value(field, row)
        except Rejectable as refused:
            value, why = row.get(field.cell.column), why or refused
        if value is not UNSET:
            _put(data, field.path, value)
    event["data"] = data
    written = msgspec.json.encode(event)
    return written if why is None else Undecoded(written, why)


def _id_of(maker: _Maker, row: Mapping[str, Any], piece: Piece) -> str:
    column = maker.id or maker.row_id
    if not column:
        return content_id(maker.source, maker.role, piece)
    cell = row.get(column)
    if is_empty(cell):
        raise missing(column, f"{column}: the column that names the row is empty")
    return text_of(cell) if maker.id else f"{text_of(cell)}:{maker.role}"


def _value(field: _Field, row: Mapping[str, Any]) -> Any:
    """The value of a field; UNSET where its cell is empty. Raises Rejectable."""
    cell = field.cell
    if cell.constant is not UNSET:
        return cell.constant
    content = row.get(cell.column)
    if is_empty(content):
        return UNSET
    if cell.values:
        text = text_of(content)
        value = cell.values.get(text, cell.otherwise)
        if value is UNSET:
            expected = ", ".join(map(repr, list(cell.values)[:10]))
            raise invalid(cell.column, f"{cell.column}: expected one of {expected}, got {text[:60]!r}")
        return UNSET if value == "" else value
    return convert_cell(content, field.leaf, split=cell.split, read_as=cell.read_as)


def _put(data: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        data = data.setdefault(step, {})
    data[path[-1]] = value
