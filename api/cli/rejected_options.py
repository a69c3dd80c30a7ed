"""Options of `ratchet rejected`: which entries, and how they are mended."""

from __future__ import annotations

import datetime as dt
import functools
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar, cast

import click
import msgspec

from api.processes.identity import now
from ingest.mending import Mend
from schemas.rejections import EntryFilter

_C = TypeVar("_C", bound=Callable[..., Any])
_AGO: Final = re.compile(r"(\d{1,6})([smhdw])\Z")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_FILTERS: Final = (
    click.option("--reason", default="", help="Only this reason code, or `conflict`."),
    click.option("--source", default="", help="Only events of this CloudEvents source."),
    click.option("--door", default="", help="Only what came in there: http, file, streams (the worker) …"),
    click.option("--type", "type_", default="", help="Only events of this type."),
    click.option("--since", default="", help="Only what came since: 30m, 12h, 7d, or a time in ISO 8601."),
    click.option("--until", default="", help="Only what came before."),
)
_MENDS: Final = (
    click.option(
        "--set", "sets", multiple=True, metavar="FIELD=VALUE", help="Dotted field; JSON, else a text."
    ),
    click.option("--rename", "renames", multiple=True, metavar="OLD=NEW", help="Move a field."),
    click.option("--drop", "drops", multiple=True, metavar="FIELD", help="Leave a field out."),
    click.option("--patch", default="", metavar="JSON", help="A JSON merge patch (RFC 7396), or @FILE."),
    click.option(
        "--mapping",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="A file, JSON or TOML: `rename` {old = new}, `values` {field = {value = new}}, `set`, `drop`.",
    ),
    click.option(
        "--with",
        "whole",
        type=click.File("rb"),
        help="A file with the whole event, in place of the original (- is standard input).",
    ),
)


def filter_options(command: _C) -> _C:
    """Options that choose entries; the command gets `chosen`, an EntryFilter."""

    @functools.wraps(command)
    def with_filter(
        *args: Any, reason: str, source: str, door: str, type_: str, since: str, until: str, **kwargs: Any
    ) -> Any:
        chosen = EntryFilter(
            reason=reason,
            source=source,
            door=door,
            type=type_,
            since=parse_time("--since", since),
            until=parse_time("--until", until),
        )
        return command(*args, chosen=chosen, **kwargs)

    return cast("_C", _decorated(with_filter, _FILTERS))


def mend_options(command: _C) -> _C:
    """Options that mend; the command gets `mend`, a Mend."""

    @functools.wraps(command)
    def with_mend(
        *args: Any,
        sets: Sequence[str],
        renames: Sequence[str],
        drops: Sequence[str],
        patch: str,
        mapping: Path | None,
        whole: Any,
        **kwargs: Any,
    ) -> Any:
        mend = Mend() if mapping is None else read_mapping(mapping)
        mend = msgspec.structs.replace(
            mend,
            rename=mend.rename | dict(_pair("--rename", one) for one in renames),
            set=mend.set
            | {path: _json_or_text(text) for path, text in (_pair("--set", one) for one in sets)},
            drop=(*mend.drop, *drops),
        )
        if patch:
            mend = msgspec.structs.replace(mend, patch=_read_patch(patch))
        if whole is not None:
            mend = msgspec.structs.replace(mend, whole=_read_whole(whole.read()))
        return command(*args, mend=mend, **kwargs)

    return cast("_C", _decorated(with_mend, _MENDS))


def _decorated(command: Callable[..., Any], options: Sequence[Callable[[Any], Any]]) -> object:
    for option in reversed(options):
        command = option(command)
    return command


def parse_time(option: str, text: str) -> dt.datetime | None:
    """`7d` ago, or a time in ISO 8601 (UTC if it does not say); None for ''. Raises click.UsageError."""
    if not text:
        return None
    if ago := _AGO.match(text):
        return now() - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(
            f"{option}: expected 30m, 12h, 7d or a time like 2026-03-02T09:30, got {text!r}"
        ) from error
    return time.replace(tzinfo=dt.UTC) if time.tzinfo is None else time


def read_mapping(path: Path) -> Mend:
    """A mend from a file in JSON or TOML. Raises click.UsageError with what is wrong in it."""
    try:
        content = path.read_bytes()
        if path.suffix == ".toml":
            return msgspec.convert(tomllib.loads(content.decode()), Mend)
        return msgspec.json.decode(content, type=Mend)
    except (msgspec.MsgspecError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise click.UsageError(
            f"--mapping {path}: {error}; it may hold rename, values, set, drop and patch"
        ) from error


def _pair(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise click.UsageError(f"{option}: expected FIELD=VALUE, got {text!r}")
    return name, value


def _json_or_text(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return text


def _read_patch(text: str) -> Any:
    try:
        return msgspec.json.decode(Path(text[1:]).read_bytes() if text.startswith("@") else text)
    except OSError as error:
        raise click.UsageError(f"--patch: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"--patch: expected JSON, but {error}") from error


def _read_whole(content: bytes) -> msgspec.Raw:
    try:
        return msgspec.json.decode(content, type=msgspec.Raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise click.UsageError(f"--with: expected an event in JSON, but {error}") from error
