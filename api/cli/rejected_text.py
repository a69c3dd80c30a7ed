"""Rejected entries in words: a list, one with its original and the next command, what a mend changes."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.project import LOCAL_TENANT
from api.replaying import remedy_of
from ingest.formats.registry import FORMAT_HEADER, FORMATS
from ingest.replay import Attempt, Replayed
from schemas.errors import Reason
from schemas.registry import BY_NAME
from schemas.rejections import CONFLICT, EntryCount, RejectedEntry

#: Characters of an entry's id that commands show.
SHOWN_ID: Final = 12
_MAX_LINES: Final = 100
_MAX_TEXT: Final = 300
_MEANT: Final = re.compile(r"did you mean '([^']+)'")
_MEANING: Final = {CONFLICT: "an earlier event with the same source and id has other content, and stands"}


def print_list(console: Console, entries: Sequence[RejectedEntry], more: bool) -> None:
    """Two lines an entry, in a table that fits 80 columns."""
    if not entries:
        console.print("Nothing that passes the filter stands in `rejected`.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("entry", no_wrap=True)
    table.add_column("last came", no_wrap=True)
    table.add_column("times", justify="right")
    table.add_column("why, where", overflow="fold")
    table.add_column("what, from", overflow="fold")
    for one in entries:
        table.add_row(
            one.entry_id[:SHOWN_ID],
            f"{one.last_received_time.astimezone():%m-%d %H:%M}",
            f"{one.times:,}",
            _two(one.reason, one.field),
            _two(_short(one.event_type) or "?", one.event_source or one.door),
        )
    console.print(table)
    left = " The latest are shown; --limit shows more." if more else ""
    console.print(f"\n`ratchet rejected show ENTRY` says why, and what to do.{left}", style="dim")


def _two(first: str, second: str) -> Text:
    return Text(f"{first}\n{second}" if second else first)


def _short(event_type: str) -> str:
    known = BY_NAME.get(event_type)
    return known.short if known else event_type


def print_stats(console: Console, counts: Mapping[str, Sequence[EntryCount]]) -> None:
    """A table for each side."""
    for side, rows in counts.items():
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column(f"by {side}", overflow="fold")
        table.add_column("entries", justify="right")
        table.add_column("times", justify="right")
        for row in rows:
            table.add_row(Text(row.value or "(not readable)"), f"{row.entries:,}", f"{row.times:,}")
        console.print(table)
        console.print()


def print_entry(
    console: Console, entry: RejectedEntry, original: bytes, standing: bytes | None, tenant: str
) -> None:
    """Everything about an entry: why, what came with the field marked, and the next commands."""
    console.print(Text(f"rejected entry {entry.entry_id}", style="bold"))
    meaning = _MEANING.get(entry.reason) or _meaning(entry.reason)
    came = f"{entry.received_time.astimezone():%Y-%m-%d %H:%M:%S}"
    if entry.times > 1:
        last = f"{entry.last_received_time.astimezone():%Y-%m-%d %H:%M:%S}"
        came = f"{entry.times:,} times, first {came}, last {last}"
    block = {
        "why": f"{entry.reason}: {meaning}" if meaning else entry.reason,
        "where": entry.field or "the whole of it",
        "message": entry.message,
        "event": " ".join(part for part in (_short(entry.event_type), entry.event_id) if part),
        "source": entry.event_source,
        "about": entry.subject,
        "came": came,
        "door": entry.door + (" (refused by the worker)" if entry.door == "streams" else ""),
        "headers": ", ".join(f"{name}: {value}" for name, value in sorted(entry.headers.items())),
        "size": f"{entry.original_length:,} bytes"
        + ("" if entry.replayable else f", of which the first {len(original):,} are kept"),
        "code": entry.code_version,
    }
    _print_block(console, block)
    console.print("\nWhat came", style="bold")
    _print_json(console, original, field_in(entry, original))
    if standing is not None:
        console.print("\nWhat stands under the same source and id (its data)", style="bold")
        _print_json(console, standing, "")
    console.print("\nWhat to do", style="bold")
    remedy = remedy_of(entry)
    console.print(Text(f"  {remedy[:1].upper()}{remedy[1:]}."))
    for command, does in next_commands(entry, original, tenant):
        console.print(Text.assemble(("  ", ""), (command, "bold")), soft_wrap=True)
        console.print(Text(f"      {does}", style="dim"))
    id_ = (
        "its new id follows from the entry, and the event that stands stays as it is"
        if entry.reason == CONFLICT
        else "the event keeps its source and id"
    )
    console.print(
        Text(
            f"  Replaying is safe: {id_}; so it counts once, however often it is sent. Once it is stored, "
            "the entry is gone from here."
        )
    )


def _meaning(reason: str) -> str:
    try:
        return Reason(reason).meaning
    except ValueError:
        return ""


def _print_block(console: Console, block: Mapping[str, str]) -> None:
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in block.items():
        if value:
            table.add_row(f"  {name}", Text(value))
    console.print(table)


def next_commands(entry: RejectedEntry, original: bytes, tenant: str) -> Iterator[tuple[str, str]]:
    """Commands that a person may run next, and what each does; the likeliest first."""
    id_, field = entry.entry_id[:SHOWN_ID], field_in(entry, original)

    def command(verb: str, *arguments: str) -> str:
        whose = [] if tenant == LOCAL_TENANT else ["--tenant", tenant]
        return shlex.join(["ratchet", "rejected", verb, id_, *arguments, *whose])

    mend = _likely_mend(entry, field)
    if entry.reason == CONFLICT:
        yield command("replay", "--new-id"), "sends it as an event of its own, beside the one that stands"
    elif not entry.replayable or entry.reason == Reason.INVALID_JSON:
        yield command("fix", "--with", "FILE"), "sends the event in FILE in its place"
    elif mend:
        yield command("fix", *mend, "--dry-run"), "shows what would change, and whether it would pass"
        yield command("fix", *mend), "sends it so"
    else:
        yield command("replay", "--dry-run"), "says whether it would pass now"
        yield command("replay"), "sends it as it is"
    yield command("discard", "--because", "WHY"), "gives it up: it no longer shows; the log keeps it"


def _likely_mend(entry: RejectedEntry, field: str) -> list[str]:
    meant = _MEANT.search(entry.message)
    match entry.reason:
        case Reason.UNKNOWN_FIELD if meant:
            return ["--rename", f"{field}={'.'.join((*field.split('.')[:-1], meant[1]))}"]
        case Reason.UNKNOWN_FIELD:
            return ["--drop", field]
        case Reason.UNKNOWN_TYPE:
            return ["--set", f"type={meant[1] if meant else 'TYPE'}"]
        case Reason.TIME_OUT_OF_RANGE:
            return ["--drop", field or "time"]
        case Reason.INVALID_VALUE if field and meant:
            return ["--set", f"{field}={meant[1]}"]
        case Reason.MISSING_FIELD | Reason.INVALID_VALUE | Reason.INVALID_ENVELOPE | Reason.TOO_LARGE if (
            field
        ):
            return ["--set", f"{field}=VALUE"]
    return []


def field_in(entry: RejectedEntry, original: bytes) -> str:
    """The dotted field of the refusal in the original: in the sender's words if it is of another format."""
    format = FORMATS.get(entry.headers.get(FORMAT_HEADER, ""))
    if format is None or b'"specversion"' in original:
        return entry.field
    return format.field_of(entry.field)


def json_lines(
    value: Any, path: tuple[str, ...] = (), name: str = "", end: str = ""
) -> Iterator[tuple[tuple[str, ...], str]]:
    """(path, text) of each line of a value, written with two spaces an indent; long texts are cut."""
    indent = "  " * len(path)
    label = f"{indent}{msgspec.json.encode(name).decode()}: " if name else indent
    if isinstance(value, dict) and value:
        yield path, f"{label}{{"
        for index, (key, member) in enumerate(value.items(), 1):
            yield from json_lines(member, (*path, key), key, "," if index < len(value) else "")
        yield (*path, ""), f"{indent}}}{end}"
    elif isinstance(value, list) and value:
        yield path, f"{label}["
        for index, member in enumerate(value):
            yield from json_lines(member, (*path, str(index)), "", "," if index < len(value) - 1 else "")
        yield (*path, ""), f"{indent}]{end}"
    else:
        text = msgspec.json.encode(value).decode()
        cut = f"{text[:_MAX_TEXT]}… ({len(text):,} characters)" if len(text) > _MAX_TEXT else text
        yield path, f"{label}{cut}{end}"


def _print_json(console: Console, content: bytes, field: str) -> None:
    """A value with its field marked; what is no JSON as text."""
    try:
        lines = list(json_lines(msgspec.json.decode(content)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        text = content.decode("utf-8", "backslashreplace")
        console.print(Text(f"  {text[:2000]}" + ("…" if len(text) > 2000 else "")), soft_wrap=True)
        return
    marked, note = _mark(lines, tuple(field.split("."))) if field else (-1, "")
    first = 0 if marked < _MAX_LINES else marked - _MAX_LINES // 2
    if first:
        console.print(f"    … {first:,} lines", style="dim")
    for number, (_, text) in enumerate(lines[first : first + _MAX_LINES], first):
        if number == marked:
            console.print(Text.assemble(("▶ ", "bold red"), (text, "bold"), (note, "red")), soft_wrap=True)
        else:
            console.print(Text(f"  {text}"), soft_wrap=True)
    if (left := len(lines) - first - _MAX_LINES) > 0:
        console.print(f"    … {left:,} lines more; --json prints all", style="dim")


def _mark(lines: Sequence[tuple[tuple[str, ...], str]], wanted: tuple[str, ...]) -> tuple[int, str]:
    """The line of the field, or of what should hold it, and a note."""
    places = {path: number for number, (path, _) in reversed(list(enumerate(lines)))}
    for length in range(len(wanted), -1, -1):
        if wanted[:length] in places:
            missing = ".".join(wanted[length:])
            return places[wanted[:length]], f"   ◀ {missing} is not here" if missing else "   ◀ here"
    return -1, ""


def print_diff(console: Console, attempt: Attempt) -> None:
    """What a mend changes, line by line."""
    sides = []
    for content in (attempt.kept.original, attempt.mended):
        try:
            sides.append([text for _, text in json_lines(msgspec.json.decode(content))])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            sides.append([content.decode("utf-8", "backslashreplace")[:2000]])
    styles = {"+": "green", "-": "red"}
    before, after = sides
    for line in difflib.unified_diff(before, after, "as it came", "mended", lineterm="", n=2):
        console.print(Text(line, style=styles.get(line[:1], "")), soft_wrap=True)


def print_results(console: Console, results: Sequence[Replayed], *, dry_run: bool, shown: int = 20) -> None:
    """What became of each, the first ones one by one, then the counts."""
    said = {
        "would_pass": ("would pass", "green"),
        "would_fail": ("would not pass" if dry_run else "not sent", "red"),
        "replayed": ("replayed", "green"),
        "unconfirmed": ("not confirmed", "yellow"),
        "answered": ("nothing to do", "dim"),
        "unknown": ("not there", "red"),
    }
    for one in results[:shown]:
        word, style = said[one.status]
        where = f" {one.reason}" + (f" at {one.field}" if one.field else "") + ":" if one.reason else ""
        names = ", ".join(f"{_short(event.type)} {event.id}" for event in one.events)
        text = " ".join(part for part in (f"as {names}" if names else "", one.message, one.note) if part)
        console.print(
            Text.assemble((one.entry_id[:SHOWN_ID], "bold"), " ", (word, style), f"{where} {text}".rstrip()),
            soft_wrap=True,
        )
    if len(results) > shown:
        console.print(f"… {len(results) - shown:,} more; --json prints all", style="dim")
    counts: dict[str, int] = {}
    for one in results:
        counts[one.status] = counts.get(one.status, 0) + 1
    if len(results) > 1:
        console.print(", ".join(f"{number:,} {said[status][0]}" for status, number in counts.items()))
